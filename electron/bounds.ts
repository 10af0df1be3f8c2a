/**
 * Where the window was, made to fit the screens there are now. Pure; the file it is kept in is window.ts's business.
 */

export type Rectangle = { x: number; y: number; width: number; height: number }
export type WindowState = { bounds: Rectangle; maximized: boolean }

const smallest = { width: 800, height: 600 }
const usual = { width: 1280, height: 860 }

/** The state that `text` holds; undefined when it holds none (a first start, or a damaged file). */
export function parseWindowState(text: string): WindowState | undefined {
  try {
    const { bounds, maximized } = JSON.parse(text) as Partial<WindowState>
    const numbers = [bounds?.x, bounds?.y, bounds?.width, bounds?.height]
    if (bounds === undefined || !numbers.every((value) => Number.isSafeInteger(value))) return undefined
    return { bounds, maximized: maximized === true }
  } catch {
    return undefined
  }
}

/**
 * Bounds that lie wholly within one of `screens` (their work areas, the first is the main one): where the window was if
 * that screen is still there, else in the middle of the main one.
 */
export function fitWindow(saved: Rectangle | undefined, screens: readonly Rectangle[]): Rectangle {
  const main = screens[0] ?? { x: 0, y: 0, ...usual }
  const home = saved === undefined ? undefined : screens.find((screen) => overlap(saved, screen) > 0)
  const screen = home ?? main
  const wanted = saved ?? { x: 0, y: 0, ...usual }
  const width = Math.min(Math.max(wanted.width, smallest.width), screen.width)
  const height = Math.min(Math.max(wanted.height, smallest.height), screen.height)
  if (home === undefined) return { x: screen.x + Math.floor((screen.width - width) / 2), y: screen.y + Math.floor((screen.height - height) / 2), width, height }
  return {
    x: Math.min(Math.max(wanted.x, screen.x), screen.x + screen.width - width),
    y: Math.min(Math.max(wanted.y, screen.y), screen.y + screen.height - height),
    width,
    height,
  }
}

/** The area that two rectangles share, in square pixels. */
function overlap(a: Rectangle, b: Rectangle): number {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x)
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y)
  return Math.max(width, 0) * Math.max(height, 0)
}
