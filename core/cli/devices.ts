/** `moe devices`: what this machine can compute on. Asks the drivers itself, so it works beside a workbench that has the library open. */
import { describeCards, describeCpu, measureDevice } from '#core/runner/device.ts'
import type { DeviceInfo } from '#core/shared/devices.ts'
import type { Command } from './command.ts'

function line({ id, name, kind, architecture, driver, isSoftware, features, measured }: DeviceInfo): string {
  const abilities = [features.f16 && 'f16', features.subgroups && 'subgroups', features.subgroupMatrix.length > 0 && 'matrix units', features.timestamps && 'timestamps'].filter(Boolean)
  const speed = measured && [`${(measured.flopsPerSecond / 1e9).toFixed(0)} GFLOP/s`, measured.bytesPerSecond && `${(measured.bytesPerSecond / 1e9).toFixed(1)} GB/s`].filter(Boolean).join(', ')
  const parts = [kind === 'cpu' ? `${name} · ${architecture}` : driver, isSoftware && 'software: runs on the CPU, for tests, slow', abilities.join(', '), speed]
  return [id, ...parts.filter(Boolean).map((part) => `  ${String(part)}`)].join('\n')
}

export const devices: Command = {
  name: 'devices',
  summary: 'the CPU and the graphics cards that can be trained on',
  usage: '[--measure]',
  options: { measure: { type: 'boolean' } },
  help: { measure: 'measure arithmetic and memory speed of each' },
  async run({ values }, context): Promise<DeviceInfo[]> {
    const found = [await describeCpu(), ...(await describeCards())]
    if (values.measure !== true) return found
    for (const device of found) {
      context.progress(`measuring ${device.name}`)
      device.measured = await measureDevice(device.id)
    }
    return found
  },
  words: (found: DeviceInfo[]) => [...found.map(line), ...(found.length === 1 ? ['No graphics card: check the driver (Vulkan, Metal or Direct3D 12).'] : [])].join('\n'),
}
