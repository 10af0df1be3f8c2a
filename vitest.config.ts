/**
 * Tests: two projects. `unit` runs in parallel and needs nothing but Node; `e2e` drives a real Chromium or Electron
 * against a running workbench, one file at a time, because it measures and looks at a whole machine's work.
 * Warnings that no test announced fail it (tests/setup.ts).
 */
import { defineConfig } from 'vitest/config'
import { findChromium } from './resources/scripts/browser.mjs'
import { findSoftwareGpus } from './resources/scripts/vulkan.mjs'

const endToEnd = ['tests/e2e/**/*.test.ts', 'tests/electron/**/*.e2e.test.ts']
const chromium = findChromium()
const gpus = Object.values(findSoftwareGpus())

export default defineConfig({
  test: {
    setupFiles: ['tests/setup.ts'],
    globalSetup: ['tests/temporary.ts'],
    restoreMocks: true,
    // The kernels use every core themselves: more than two files at once only makes them wait for each other.
    maxWorkers: 2,
    env: { ...(chromium && { CHROMIUM_PATH: chromium }), ...(gpus.length > 0 && { VK_ICD_FILENAMES: gpus.join(':') }) },
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['tests/**/*.test.ts'], exclude: endToEnd, testTimeout: 90_000, hookTimeout: 120_000 },
      },
      {
        extends: true,
        test: { name: 'e2e', include: endToEnd, fileParallelism: false, testTimeout: 180_000, hookTimeout: 180_000 },
      },
    ],
  },
})
