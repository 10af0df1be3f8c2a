/**
 * Pages and their addresses. Hash addresses, so that one build works from a server and from a file in Electron.
 * Every route names its title's catalogue key; the shell sets the document's title and moves the focus.
 */
import { createRouter, createWebHashHistory } from 'vue-router'
import HomePage from './features/home/HomePage.vue'

declare module 'vue-router' {
  // A module's own type is extended by an interface of its name only.
  // eslint-disable-next-line @typescript-eslint/consistent-type-definitions
  interface RouteMeta {
    title: string
    /** The navigation entry that is shown as current. */
    section?: 'home' | 'data' | 'runs' | 'experiments' | 'chat' | 'analyses' | 'evaluations' | 'devices' | 'settings'
  }
}

export const router = createRouter({
  history: createWebHashHistory(),
  routes: [
    { path: '/', name: 'home', component: HomePage, meta: { title: 'nav.home', section: 'home' } },
    { path: '/data', name: 'data', component: () => import('./features/mixes/DataPage.vue'), meta: { title: 'nav.data', section: 'data' } },
    {
      path: '/data/builds/:id/:step(sources|filters|tokenizer|shares|build)?',
      name: 'build',
      component: () => import('./features/builds/BuildPage.vue'),
      props: (to) => ({ id: to.params.id, step: to.params.step || 'sources' }),
      meta: { title: 'build.title', section: 'data' },
    },
    { path: '/data/mixes/:id', name: 'mix', component: () => import('./features/mixes/MixPage.vue'), props: true, meta: { title: 'mixes.title', section: 'data' } },
    { path: '/runs', name: 'runs', component: () => import('./features/runs/RunsPage.vue'), meta: { title: 'nav.runs', section: 'runs' } },
    { path: '/runs/new', name: 'newRun', component: () => import('./features/runs/NewRunPage.vue'), meta: { title: 'newRun.title', section: 'runs' } },
    {
      path: '/runs/compare',
      name: 'compare',
      component: () => import('./features/runs/ComparePage.vue'),
      props: (to) => ({ ids: String(to.query.ids ?? '').split(',').filter(Boolean) }),
      meta: { title: 'training.compare.title', section: 'runs' },
    },
    { path: '/lineage/:runId?', name: 'lineage', component: () => import('./features/lineage/LineagePage.vue'), props: (to) => ({ runId: to.params.runId || null }), meta: { title: 'training.lineage.title', section: 'runs' } },
    { path: '/experiments', name: 'experiments', component: () => import('./features/experiments/ExperimentsPage.vue'), meta: { title: 'paper.title', section: 'experiments' } },
    { path: '/experiments/:id', name: 'experiment', component: () => import('./features/experiments/ExperimentPage.vue'), props: true, meta: { title: 'paper.title', section: 'experiments' } },
    {
      path: '/runs/:id/:tab(overview|experts|checkpoints|samples|history|log|configuration)?',
      name: 'run',
      component: () => import('./features/runs/RunPage.vue'),
      props: (to) => ({ id: to.params.id, tab: to.params.tab || 'overview' }),
      meta: { title: 'run.title', section: 'runs' },
    },
    {
      path: '/chat/:id?',
      name: 'chat',
      component: () => import('./features/chats/ChatPage.vue'),
      props: (to) => ({ id: to.params.id || null, ...Object.fromEntries(['checkpoint', 'beside', 'message'].map((key) => [key, typeof to.query[key] === 'string' ? to.query[key] : null])) }),
      meta: { title: 'nav.chat', section: 'chat' },
    },
    { path: '/analyses', name: 'analyses', component: () => import('./features/analyses/AnalysesPage.vue'), meta: { title: 'nav.analyses', section: 'analyses' } },
    { path: '/analyses/text', name: 'textRouting', component: () => import('./features/analyses/TextRoutingPage.vue'), meta: { title: 'routing.title', section: 'analyses' } },
    {
      path: '/analyses/:id',
      name: 'analysis',
      component: () => import('./features/analyses/AnalysisPage.vue'),
      props: (to) => ({ id: to.params.id, beside: typeof to.query.beside === 'string' ? to.query.beside : null }),
      meta: { title: 'nav.analyses', section: 'analyses' },
    },
    {
      path: '/analyses/:id/experts/:layer(\\d+)/:expert(\\d+)',
      name: 'expert',
      component: () => import('./features/analyses/ExpertPage.vue'),
      props: (to) => ({ id: to.params.id, layer: Number(to.params.layer), expert: Number(to.params.expert) }),
      meta: { title: 'nav.analyses', section: 'analyses' },
    },
    { path: '/evaluations', name: 'evaluations', component: () => import('./features/evaluations/EvaluationsPage.vue'), meta: { title: 'nav.evaluations', section: 'evaluations' } },
    { path: '/devices', name: 'devices', component: () => import('./features/devices/DevicesPage.vue'), meta: { title: 'nav.devices', section: 'devices' } },
    { path: '/settings', name: 'settings', component: () => import('./features/system/SettingsPage.vue'), meta: { title: 'nav.settings', section: 'settings' } },
    { path: '/:rest(.*)*', name: 'notFound', component: () => import('./shell/NotFoundPage.vue'), meta: { title: 'notFound.title' } },
  ],
})
