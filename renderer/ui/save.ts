/** Gives a file to the browser to keep. The name is made safe for every file system. */
function save(name: string, content: Blob): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name.replace(/[^\p{L}\p{N}._-]+/gu, '-')
  link.click()
  URL.revokeObjectURL(link.href)
}

export function saveText(name: string, type: string, text: string): void {
  save(name, new Blob([text], { type }))
}

/** Pixels of a picture for each unit of its drawing: sharp in print. */
const pixelsPerUnit = 3

/** An SVG as pixels. Rejects when the browser cannot draw it. */
export async function savePng(name: string, svg: string): Promise<void> {
  const image = new Image()
  // The policy of the page lets pictures in from data addresses.
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`
  await image.decode()
  const canvas = document.createElement('canvas')
  canvas.width = image.naturalWidth * pixelsPerUnit
  canvas.height = image.naturalHeight * pixelsPerUnit
  canvas.getContext('2d')!.drawImage(image, 0, 0, canvas.width, canvas.height)
  const png = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'))
  if (png === null) throw new Error(`${name}: the picture is too large for this browser`)
  save(name, png)
}
