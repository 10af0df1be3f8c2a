/** Starts the page: connection, stores, languages, routes, and Nuxt UI's icons (its colours are in style.css). */
import icons from '@nuxt/ui/runtime/vue/plugins/icons.js'
import { createPinia } from 'pinia'
import { createApp } from 'vue'
import App from './App.vue'
import { connect } from './client.ts'
import { useSystem } from './features/system/store.ts'
import { i18n } from './i18n.ts'
import { router } from './router.ts'
import './style.css'

const app = createApp(App)
app.use(createPinia())
app.use(i18n)
app.use(router)
app.use(icons)

connect()
useSystem().start()
app.mount('#app')
