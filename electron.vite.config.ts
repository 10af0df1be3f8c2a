/**
 * Builds the app into out/: the shell, the core and the runner for Node (`main`), the preload script, and the page. The
 * served workbench uses the same page; the core and the runner then run from their sources.
 */
import { resolve } from 'node:path'
import ui from '@nuxt/ui/vite'
import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'electron-vite'

const at = (path: string): string => resolve(import.meta.dirname, path)

export default defineConfig({
  main: {
    build: {
      rolldownOptions: {
        input: { main: at('electron/main.ts'), core: at('electron/core.ts'), runner: at('core/runner.ts') },
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
  renderer: {
    root: at('renderer'),
    plugins: [vue(), ui({ icon: { clientBundle: { scan: true } } })],
    build: { outDir: at('out/renderer'), emptyOutDir: true, rolldownOptions: { input: at('renderer/index.html') } },
  },
})
