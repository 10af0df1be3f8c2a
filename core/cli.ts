/**
 * The command line: finds the command, gives it its options, prints its result. Exit codes: 0 done, 1 failure (with
 * {"error":{code,message,hint}} under --json), 2 wrong use. Commands themselves are in core/cli/, one file each.
 */
import { parseArgs } from 'node:util'
import { analyze } from './cli/analyze.ts'
import { benchTrain } from './cli/bench-train.ts'
import { dataAdd, dataBuild, dataInspect, dataPreview } from './cli/data.ts'
import { dataDownload } from './cli/data-download.ts'
import { tokenizerEncode, tokenizerTrain } from './cli/tokenizer.ts'
import { commonOptions, parseCommand, UsageError, type Command, type Context } from './cli/command.ts'
import { devices } from './cli/devices.ts'
import { evaluate } from './cli/evaluate.ts'
import { evalLogprobs } from './cli/eval-logprobs.ts'
import { experimentsList, experimentsRun, experimentsShow } from './cli/experiments.ts'
import { exportCommand } from './cli/export.ts'
import { importCommand } from './cli/import.ts'
import { generate } from './cli/generate.ts'
import { quantize } from './cli/quantize.ts'
import { quickstart } from './cli/quickstart.ts'
import { rayCheck, rayFollow, rayStop, rayTrain, rayWrite } from './cli/ray.ts'
import { runs } from './cli/runs.ts'
import { serveCommand } from './cli/serve.ts'
import { train } from './cli/train.ts'
import { trainStep } from './cli/train-step.ts'
import { defaultLibraryPath } from './node-host.ts'
import { toErrorData } from './shared/errors.ts'

const commands: Command[] = [quickstart, train, rayTrain, rayFollow, rayStop, rayWrite, rayCheck, runs, importCommand, exportCommand, generate, quantize, evalLogprobs, evaluate, analyze, trainStep, benchTrain, dataAdd, dataInspect, dataBuild, dataPreview, dataDownload, tokenizerTrain, tokenizerEncode, devices, experimentsList, experimentsRun, experimentsShow, serveCommand]

function overview(): string {
  const width = Math.max(...commands.map((command) => command.name.length))
  return [
    'moe — MoE Workbench on the command line',
    '',
    ...commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}`),
    '',
    'Every command takes --json (one JSON value on stdout), --library <folder> and --help.',
  ].join('\n')
}

function usageOf(command: Command): string {
  const options = Object.entries(command.help)
  const width = Math.max(0, ...options.map(([name]) => name.length))
  return [
    `moe ${command.name} ${command.usage}`.trimEnd(),
    '',
    command.summary,
    ...(options.length ? ['', ...options.map(([name, text]) => `  --${name.padEnd(width)}  ${text}`)] : []),
  ].join('\n')
}

/** The command whose words start `argv`, longest first, and the rest. */
function findCommand(argv: string[]): { command: Command; rest: string[] } | null {
  const sorted = [...commands].sort((a, b) => b.name.length - a.name.length)
  for (const command of sorted) {
    const words = command.name.split(' ')
    if (words.every((word, i) => argv[i] === word)) return { command, rest: argv.slice(words.length) }
  }
  return null
}

function createContext(values: Record<string, string | boolean | undefined>): Context {
  const isTerminal = process.stderr.isTTY === true
  let lastShownAt = 0
  return {
    json: values.json === true,
    library: typeof values.library === 'string' ? values.library : defaultLibraryPath(),
    progress(text) {
      if (isTerminal) process.stderr.write(`\r\x1b[2K${text}`)
      else if (Date.now() - lastShownAt >= 2000) {
        lastShownAt = Date.now()
        process.stderr.write(`${text}\n`)
      }
    },
    note: (text) => process.stderr.write(`${isTerminal ? '\r\x1b[2K' : ''}${text}\n`),
  }
}

/** Runs the command line `argv` (without node and script); returns the exit code. */
export async function runCli(argv: string[]): Promise<number> {
  const found = findCommand(argv)
  if (!found) {
    const { values } = parseArgs({ args: argv.slice(0, 1), options: commonOptions, strict: false })
    const wanted = argv.length === 0 || values.help === true || argv[0] === 'help'
    if (!wanted) process.stderr.write(`moe: unknown command "${argv[0]}"\n\n`)
    ;(wanted ? process.stdout : process.stderr).write(`${overview()}\n`)
    return wanted ? 0 : 2
  }
  const { command, rest } = found
  let json = rest.includes('--json')
  try {
    const input = parseCommand(command, rest)
    if (input.values.help === true) {
      process.stdout.write(`${usageOf(command)}\n`)
      return 0
    }
    const context = createContext(input.values)
    json = context.json
    const result = await command.run(input, context)
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K')
    if (result !== undefined) process.stdout.write(`${json ? JSON.stringify(result) : command.words(result as never)}\n`)
    return 0
  } catch (error) {
    const isUsage = error instanceof UsageError
    const data = isUsage ? { code: 'usage', message: error.message, params: {}, hint: `moe ${command.name} --help` } : toErrorData(error)
    if (json) process.stdout.write(`${JSON.stringify({ error: data })}\n`)
    process.stderr.write(`moe ${command.name}: ${data.message}\n${data.hint ? `${data.hint}\n` : ''}`)
    if (data.code === 'internal' && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`)
    return isUsage ? 2 : 1
  }
}

/** The entry's work: runs `argv` and leaves with its exit code once stdout has drained. */
export async function main(argv: string[]): Promise<void> {
  process.exitCode = await runCli(argv)
}

if (process.argv[1] === import.meta.filename) await main(process.argv.slice(2))
