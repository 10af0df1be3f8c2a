/** 设置中 API 的中文。 */
export const apiServer = {
  title: 'API',
  on: '允许本机上的程序使用模型',
  text: '仅限本机的 OpenAI 兼容接口。需要密钥；密钥只能使用模型，不能做别的。',
  address: '地址',
  copyAddress: '复制地址',
  used: '启动以来',
  counts: '{n} 个请求，{failed} 个被拒绝，写出 {tokens} 个词元',
  keys: '密钥',
  newKey: '你的新密钥',
  once: '只在此刻显示：工作台只保存它的哈希值。',
  copyKey: '复制密钥',
  addKey: '生成密钥',
  removeOf: '移除密钥 {key}…',
  removeTitle: '移除这个密钥？',
  removeText: '使用它的程序从现在起会被拒绝。',
  remove: '移除密钥',
}
