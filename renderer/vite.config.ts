/**
 * How the page is built: one static bundle in out/renderer with relative addresses, for the served workbench and for
 * Electron alike. Icons are bundled at build time and colours are plain CSS, so that the page needs no network and runs
 * under a policy of `script-src 'self'; style-src 'self'`.
 */
import { fileURLToPath } from 'node:url'
import ui from '@nuxt/ui/vite'
import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'

const repository = fileURLToPath(new URL('..', import.meta.url))

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  base: './',
  build: {
    outDir: fileURLToPath(new URL('../out/renderer', import.meta.url)),
    emptyOutDir: true,
    target: 'chrome138',
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200,
    // A font or picture inlined as data: would need a wider policy.
    assetsInlineLimit: 0,
  },
  define: { __VUE_OPTIONS_API__: false, __VUE_I18N_LEGACY_API__: false, __VUE_I18N_FULL_INSTALL__: false, __INTLIFY_PROD_DEVTOOLS__: false },
  plugins: [
    vue(),
    ui({
      root: repository,
      components: false,
      autoImport: false,
      dts: false,
      colorMode: false,
      theme: { colors: ['primary', 'neutral', 'error', 'warning', 'success'] },
      icon: { clientBundle: { scan: { globInclude: ['renderer/**/*.{vue,ts}'] } } },
      ui: {
        button: { slots: { base: 'cursor-pointer' } },
        formField: { slots: { help: 'text-xs', hint: 'num' } },
        modal: { slots: { overlay: 'bg-black/40 backdrop-blur-[2px]', content: 'rounded-xl' } },
      },
    }),
  ],
})
