/** 在 Ray 集群上训练的中文文案。 */
import type { clusters as english } from './en-clusters.ts'

export const clusters: typeof english = {
  where: '训练地点',
  here: '本机',
  ray: 'Ray 集群',
  action: '在 Ray 集群上训练',
  address: '仪表盘地址',
  addressHelp: '使用其作业 API；端口默认为 8265。',
  folder: '共享文件夹',
  folderHelp: '本机与集群所有机器都能访问的文件夹。词元与初始权重放在那里，数据与检查点从那里取回。',
  clusterFolder: '该文件夹在集群上的路径',
  clusterFolderHelp: '留空则相同。',
  workers: '工作进程数',
  workersHelp: '它们分担每个微批次的序列。',
  gpus: '每个进程的 GPU 数',
  gpusHelp: '0 表示使用 CPU。',
  python: '集群上的 Python',
  pythonHelp: '需要 ray[train]、torch 和 transformers。',
  check: '询问集群',
  answer: 'Ray {version}：{nodes} 台机器，{cpus} 个 CPU，{gpus} 个 GPU',
  problem: '此配方无法在那里训练：{field} {message}。',
}
