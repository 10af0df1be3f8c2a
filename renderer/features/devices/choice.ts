/** The device of a recipe as one choice of a list: the CPU, a certain card, or whichever card is first. */
import type { DeviceInfo } from '#core/shared/devices.ts'
import type { RunConfig } from '#core/shared/runs.ts'

export const firstCard = 'webgpu'

export const choiceOf = ({ device, adapter }: Pick<RunConfig, 'device' | 'adapter'>): string => (device === 'cpu' ? 'cpu' : (adapter ?? firstCard))

export const deviceOfChoice = (choice: string): Pick<RunConfig, 'device' | 'adapter'> =>
  choice === 'cpu' ? { device: 'cpu', adapter: null } : { device: 'webgpu', adapter: choice === firstCard ? null : choice }

/** The device that a choice means on this machine, if it is known. */
export function chosenDevice(choice: string, devices: readonly DeviceInfo[]): DeviceInfo | undefined {
  return devices.find(({ id, kind }) => (choice === firstCard ? kind === 'webgpu' : id === choice))
}

/** Whether mixed precision can be had; an unknown device gets the benefit of the doubt. */
export const canMix = (choice: string, devices: readonly DeviceInfo[]): boolean => chosenDevice(choice, devices)?.features.f16 ?? true
