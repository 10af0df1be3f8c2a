/**
 * Builds the app into out/: the shell, the core and the runner for Node (`main`), the preload script, and the page, whose
 * own part is renderer/vite.config.ts. The served workbench uses the same page; core and runner then run from source.
 */
import { resolve } from 'node:path'
import { defineConfig } from 'electron-vite'
import page from './renderer/vite.config.ts'

const at = (path: string): string => resolve(import.meta.dirname, path)

export default defineConfig({
  main: {
    build: {
      rolldownOptions: {
        // It looks for its binary beside itself.
        external: ['webgpu'],
        input: { main: at('electron/main.ts'), core: at('electron/core.ts'), runner: at('core/runner.ts'), 'parquet-worker': at('core/data/readers/parquet-worker.ts'), 'shard-worker': at('core/data/build/shard-worker.ts'), 'count-worker': at('core/data/count-worker.ts') },
        output: { entryFileNames: '[name].js', chunkFileNames: 'chunks/[name]-[hash].js' },
      },
    },
  },
  preload: {
    build: {
      // A sandboxed preload script is CommonJS and one file.
      rolldownOptions: { input: { preload: at('electron/preload.ts') }, output: { format: 'cjs', entryFileNames: '[name].cjs' } },
    },
  },
  renderer: { ...page, build: { ...page.build, rolldownOptions: { input: at('renderer/index.html') } } },
})
