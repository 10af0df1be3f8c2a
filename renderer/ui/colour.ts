/**
 * Colours that are computed: the diverging scale of expert load, and one hue per expert.
 * Load is blue below its fair share, quiet at 1×, orange above: the pair that every common kind of colour vision tells
 * apart. Both halves run through OKLab in equal lightness steps (B. Ottosson, "A perceptual color space", 2020).
 */
export type Rgb = readonly [number, number, number]

/** sRGB bytes of an OKLab colour; out-of-gamut components are clipped. */
export function oklabToRgb(l: number, a: number, b: number): Rgb {
  const l3 = (l + 0.3963377774 * a + 0.2158037573 * b) ** 3
  const m3 = (l - 0.1055613458 * a - 0.0638541728 * b) ** 3
  const s3 = (l - 0.0894841775 * a - 1.291485548 * b) ** 3
  const byte = (linear: number) => {
    const c = Math.min(1, Math.max(0, linear))
    return Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055))
  }
  return [
    byte(4.0767416621 * l3 - 3.3077115913 * m3 + 0.2309699292 * s3),
    byte(-1.2684380046 * l3 + 2.6097574011 * m3 - 0.3413193965 * s3),
    byte(-0.0041960863 * l3 - 0.7034186147 * m3 + 1.707614701 * s3),
  ]
}

const polar = (l: number, c: number, degrees: number) => [l, c * Math.cos((degrees * Math.PI) / 180), c * Math.sin((degrees * Math.PI) / 180)] as const

const ends = {
  light: { under: polar(0.5, 0.14, 255), fair: polar(0.965, 0.004, 200), over: polar(0.6, 0.17, 48) },
  dark: { under: polar(0.72, 0.13, 250), fair: polar(0.28, 0.012, 220), over: polar(0.8, 0.15, 65) },
}

/** Position of a load ratio on the scale: 0 (dead) at -1, 1 (fair) at 0, 4 and more at +1. */
export function loadPosition(ratio: number): number {
  return ratio <= 1 ? ratio - 1 : Math.min(1, Math.log2(ratio) / 2)
}

/** Colour of a scale position in [-1, 1]. */
export function loadColour(position: number, dark: boolean): Rgb {
  const { under, fair, over } = ends[dark ? 'dark' : 'light']
  const end = position < 0 ? under : over
  const w = Math.min(1, Math.abs(position))
  const at = (i: 0 | 1 | 2) => fair[i] + (end[i] - fair[i]) * w
  return oklabToRgb(at(0), at(1), at(2))
}

/** Colour of a share of the whole, 0 to 1: from quiet to the end of the load scale that means more. */
export function shareColour(share: number, dark: boolean): Rgb {
  return loadColour(Math.min(1, Math.max(0, share)), dark)
}

/** Hue of an expert in degrees: neighbours are the golden angle apart. */
export function expertHue(expert: number): number {
  return (expert * 137.508 + 190) % 360
}

/** Colour of an expert's cell, as light as its tint behind text may be. */
export function expertCell(expert: number, dark: boolean): Rgb {
  return oklabToRgb(...polar(dark ? 0.62 : 0.74, 0.12, expertHue(expert)))
}

/** CSS colour of an expert for lines and bars, in the current theme. */
export function expertColour(expert: number): string {
  return `oklch(var(--expert-l) var(--expert-c) ${expertHue(expert).toFixed(1)})`
}
