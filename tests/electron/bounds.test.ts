/** The window comes back where it was, and never off the screen. */
import { expect, test } from 'vitest'
import { fitWindow, parseWindowState, type Rectangle } from '#electron/bounds.ts'

const main: Rectangle = { x: 0, y: 25, width: 1920, height: 1055 }
const right: Rectangle = { x: 1920, y: 0, width: 2560, height: 1440 }

const isWithin = (inner: Rectangle, outer: Rectangle): boolean =>
  inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width && inner.y + inner.height <= outer.y + outer.height

test('a first start is centred on the main screen', () => {
  expect(fitWindow(undefined, [main, right])).toEqual({ x: 320, y: 122, width: 1280, height: 860 })
})

test('a window on a screen that is still there stays where it was', () => {
  const saved = { x: 2200, y: 100, width: 1400, height: 900 }
  expect(fitWindow(saved, [main, right])).toEqual(saved)
})

test('a window on a screen that is gone comes to the main one', () => {
  const fitted = fitWindow({ x: 2200, y: 100, width: 1400, height: 900 }, [main])
  expect(fitted).toEqual({ x: 260, y: 102, width: 1400, height: 900 })
})

test('a window that hangs over an edge is pulled in, one larger than its screen is shrunk to it', () => {
  const over = fitWindow({ x: 1500, y: 900, width: 1000, height: 700 }, [main])
  expect(over).toEqual({ x: 920, y: 380, width: 1000, height: 700 })
  expect(fitWindow({ x: -50, y: 0, width: 5000, height: 5000 }, [main])).toEqual(main)
})

test('whatever was saved, the window lies within a screen', () => {
  for (let seed = 1; seed < 500; seed++) {
    const value = (k: number): number => Math.round(6000 * Math.sin(seed * k))
    const saved = { x: value(1.1), y: value(2.3), width: Math.abs(value(3.7)), height: Math.abs(value(5.9)) }
    const fitted = fitWindow(saved, [main, right])
    expect([main, right].some((screen) => isWithin(fitted, screen)), JSON.stringify({ saved, fitted })).toBe(true)
  }
})

test('a saved state is read back, a damaged one is none', () => {
  const state = { bounds: { x: 1, y: 2, width: 900, height: 700 }, maximized: true }
  expect(parseWindowState(JSON.stringify(state))).toEqual(state)
  for (const text of ['', '{', 'null', '{}', '{"bounds":{"x":1,"y":2,"width":"900","height":700}}', '{"bounds":{"x":1e99,"y":2,"width":9,"height":7}}']) {
    expect(parseWindowState(text)).toBeUndefined()
  }
})
