/** What the form begins with for a cluster: Ray's own port on this machine, its CPU, and a folder that must be given. */
import type { Cluster } from '#core/shared/clusters.ts'

export const defaultCluster: Cluster = { address: 'http://127.0.0.1:8265', workers: 1, gpusPerWorker: 0, folder: '', clusterFolder: null, python: 'python' }
