/** The software Vulkan driver that comes with Chromium: a card for tests, on machines that have none. */
import { existsSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Its description file, for VK_ICD_FILENAMES; undefined where it is not found. */
export function softwareVulkan(): string | undefined {
  const beside = process.env.CHROMIUM_PATH ? [dirname(realpathSync(process.env.CHROMIUM_PATH))] : []
  return [...beside, '/usr/lib/chromium', '/usr/lib/chromium-browser', '/opt/google/chrome'].map((folder) => join(folder, 'vk_swiftshader_icd.json')).find((file) => existsSync(file))
}
