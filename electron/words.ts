/**
 * The few words the shell itself shows, in the two languages of the product. The page has its own catalogue: the shell
 * must be able to speak before there is a page, and when the page cannot be shown.
 */

const english = {
  file: 'File',
  edit: 'Edit',
  view: 'View',
  window: 'Window',
  help: 'Help',
  openLibrary: 'Show library folder',
  show: 'Show MoE Workbench',
  quit: 'Quit',
  userGuide: 'About MoE Workbench',
  coreEndedTitle: 'The workbench has stopped working',
  coreEndedDetail: 'Its core process ended ({how}). Your library is on disk; runs can be resumed.',
  restart: 'Start it again',
  runsActiveTitle: 'A run is in progress',
  runsActiveDetail: 'Leaving now saves a checkpoint and stops it. You can resume it later.',
  saveAndQuit: 'Save and quit',
  keepRunning: 'Keep running in the background',
  cancel: 'Cancel',
  trayRun: '{name}: {percent} %',
  trayQueued: '{n} in the queue',
  trayIdle: 'No run is in progress',
}

/** The catalogue of one language. */
export type Words = typeof english

const chinese: Words = {
  file: '文件',
  edit: '编辑',
  view: '视图',
  window: '窗口',
  help: '帮助',
  openLibrary: '打开资料库文件夹',
  show: '显示 MoE Workbench',
  quit: '退出',
  userGuide: '关于 MoE Workbench',
  coreEndedTitle: '工作台已停止运行',
  coreEndedDetail: '其核心进程已结束（{how}）。资料库保存在磁盘上，训练可以继续。',
  restart: '重新启动',
  runsActiveTitle: '有任务正在运行',
  runsActiveDetail: '现在退出会保存检查点并停止任务，之后可以继续。',
  saveAndQuit: '保存并退出',
  keepRunning: '在后台继续运行',
  cancel: '取消',
  trayRun: '{name}：已完成 {percent} %',
  trayQueued: '排队中：{n}',
  trayIdle: '没有正在进行的训练',
}

/** The words for a locale such as `zh-CN`; English for a language the product does not have. */
export function wordsFor(locale: string): Words {
  return /^zh\b/i.test(locale) ? chinese : english
}
