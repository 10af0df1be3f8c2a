/**
 * Ray's job REST API: submit, state, log, stop. One request per call and no state of its own. What can go wrong has a code each: nobody there
 * (ray.unreachable), somebody else there (ray.notRay), Ray refusing (ray.refused). RAY_AUTH_TOKEN is sent as Ray's own clients send it.
 */
import { once } from 'node:events'
import http from 'node:http'
import https from 'node:https'
import { z } from 'zod'
import type { ClusterAnswer } from '#core/shared/clusters.ts'
import { AppError } from '#core/shared/errors.ts'

export const rayStates = ['PENDING', 'RUNNING', 'STOPPED', 'SUCCEEDED', 'FAILED'] as const
export type RayState = (typeof rayStates)[number]
export type RayJob = { state: RayState; message: string }

export type RayClient = {
  check(): Promise<ClusterAnswer>
  /** Starts `entrypoint` under that id, which no job may have yet. */
  submit(job: { submissionId: string; entrypoint: string; environment: Record<string, string>; metadata: Record<string, string> }): Promise<void>
  /** Null when the cluster does not know the job. */
  job(submissionId: string): Promise<RayJob | null>
  /** All that the script has printed. */
  log(submissionId: string): Promise<string>
  stop(submissionId: string): Promise<void>
}

const jobSchema = z.object({ status: z.enum(rayStates), message: z.string().nullish() })
const versionSchema = z.object({ ray_version: z.string() })
const nodesSchema = z.object({ data: z.object({ summary: z.array(z.object({ cpus: z.array(z.number()).optional(), gpus: z.array(z.unknown()).optional(), raylet: z.object({ state: z.string().optional() }).optional() })) }) })

const waitMs = 20_000
const shownLength = 300

/** The first line that says something, of a server's answer. */
const firstWords = (text: string): string => (text.trim().split('\n').findLast((line) => line.trim() !== '') ?? '').slice(0, shownLength)

function unreachable(address: string, error: unknown): AppError {
  const { code, message, name } = error as NodeJS.ErrnoException
  const found = name === 'AbortError' ? `no answer in ${waitMs / 1000} s` : (code ?? message)
  return new AppError('ray.unreachable', `${address}: nobody answers (${found})`, {
    params: { address, found },
    hint: "Start Ray there with its dashboard (ray start --head --dashboard-host 0.0.0.0), or forward the dashboard's port (8265) to this machine.",
    cause: error,
  })
}

const notRay = (address: string, found: string): AppError =>
  new AppError('ray.notRay', `${address} answers, but not as Ray's job API: ${found}`, { params: { address, found }, hint: 'Give the address of the dashboard (port 8265 unless changed). Ray must be installed as ray[default].' })

const refused = (address: string, status: number, text: string): AppError =>
  new AppError('ray.refused', `${address}: HTTP ${status}: ${firstWords(text)}`, { params: { address, status, found: firstWords(text) }, hint: status === 401 || status === 403 ? 'It wants a token: set RAY_AUTH_TOKEN for the workbench.' : "The dashboard's log (dashboard.log of Ray's session) has the details." })

type Answer = { status: number; text: string }

/** One request. Not by fetch: it names itself a browser's (sec-fetch-mode), from which Ray takes no POST. */
async function ask(address: string, method: string, path: string, body?: unknown): Promise<Answer> {
  const token = process.env.RAY_AUTH_TOKEN
  const text = body === undefined ? null : JSON.stringify(body)
  const headers = {
    ...(text !== null && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
    ...(token !== undefined && token !== '' && { authorization: `Bearer ${token}` }),
  }
  try {
    const url = new URL(`${address.replace(/\/+$/, '')}${path}`)
    const request = (url.protocol === 'https:' ? https : http).request(url, { method, headers, signal: AbortSignal.timeout(waitMs) })
    request.end(text ?? undefined)
    const [response] = (await once(request, 'response')) as [http.IncomingMessage]
    const chunks = (await response.toArray()) as Buffer[]
    return { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }
  } catch (error) {
    throw unreachable(address, error)
  }
}

/** The answer held against what Ray says. */
function read<S extends z.ZodType>(address: string, { status, text }: Answer, schema: S): z.output<S> {
  if (status < 200 || status >= 300) throw refused(address, status, text)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw notRay(address, firstWords(text) || 'an empty answer')
  }
  const parsed = schema.safeParse(json)
  if (!parsed.success) throw notRay(address, `${parsed.error.issues[0]!.path.join('.') || 'the answer'}: ${parsed.error.issues[0]!.message}`)
  return parsed.data
}

/** A client of the dashboard at `address`. */
export function rayClient(address: string): RayClient {
  const at = (id: string): string => `/api/jobs/${encodeURIComponent(id)}`
  return {
    async check() {
      const answer = await ask(address, 'GET', '/api/version')
      if (answer.status === 404) throw notRay(address, 'HTTP 404 for /api/version')
      const { ray_version: rayVersion } = read(address, answer, versionSchema)
      // Tells of the machines where the dashboard has them; a cluster can be used without.
      const nodes = await ask(address, 'GET', '/nodes?view=summary').then((found) => read(address, found, nodesSchema).data.summary).catch(() => null)
      const alive = nodes?.filter(({ raylet }) => raylet?.state === undefined || raylet.state === 'ALIVE') ?? null
      return { rayVersion, nodes: alive?.length ?? null, cpus: alive?.reduce((sum, { cpus }) => sum + (cpus?.[0] ?? 0), 0) ?? null, gpus: alive?.reduce((sum, { gpus }) => sum + (gpus?.length ?? 0), 0) ?? null }
    },
    async submit({ submissionId, entrypoint, environment, metadata }) {
      const answer = await ask(address, 'POST', '/api/jobs/', { submission_id: submissionId, entrypoint, runtime_env: { env_vars: environment }, metadata })
      if (answer.status === 404 || answer.status === 405) throw notRay(address, `HTTP ${answer.status} for /api/jobs/`)
      read(address, answer, z.object({ submission_id: z.string() }))
    },
    async job(id) {
      const answer = await ask(address, 'GET', at(id))
      if (answer.status === 404 && answer.text.includes('does not exist')) return null
      if (answer.status === 404) throw notRay(address, `HTTP 404 for ${at(id)}`)
      const { status, message } = read(address, answer, jobSchema)
      return { state: status, message: message ?? '' }
    },
    log: async (id) => read(address, await ask(address, 'GET', `${at(id)}/logs`), z.object({ logs: z.string() })).logs,
    stop: async (id) => void read(address, await ask(address, 'POST', `${at(id)}/stop`), z.object({ stopped: z.boolean() })),
  }
}
