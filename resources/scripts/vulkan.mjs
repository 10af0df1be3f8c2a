/**
 * Software GPUs for the tests: SwiftShader, which comes with Chromium, and Mesa's lavapipe from Debian's backports, unpacked into .setup/
 * and never installed. Both are Vulkan drivers, so the loader (libvulkan1) is needed too. A machine that cannot have them skips
 * those tests and says so; a real card needs none of this.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { findChromium, findOnPath } from './browser.mjs'
import { root, runQuietly } from './process.mjs'

const lavapipeFolder = join(root, '.setup/lavapipe')
const lavapipeFile = join(lavapipeFolder, 'icd.json')
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'

/** The file that tells the Vulkan loader of Chromium's SwiftShader; undefined where there is none. */
function findSwiftShader() {
  if (process.platform !== 'linux') return undefined
  const chromium = findChromium()
  const folders = ['/usr/lib/chromium', '/usr/lib/chromium-browser', '/opt/google/chrome', ...(chromium ? [dirname(realpathSync(chromium))] : [])]
  return folders.map((folder) => join(folder, 'vk_swiftshader_icd.json')).find((file) => existsSync(file))
}

/** Whether the system's loader has Vulkan's. */
function hasLoader() {
  try {
    return execFileSync('ldconfig', ['-p'], { encoding: 'utf8', env: { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` } }).includes('libvulkan.so.1')
  } catch {
    return false
  }
}

/** Driver files by name, those that are here; what VK_ICD_FILENAMES takes, joined by colons. */
export function findSoftwareGpus() {
  if (process.platform !== 'linux' || !hasLoader()) return {}
  const swiftshader = findSwiftShader()
  return { ...(swiftshader && { swiftshader }), ...(existsSync(lavapipeFile) && { lavapipe: lavapipeFile }) }
}

/** Unpacks lavapipe of Debian's backports beside the checkout's other set-up, with the system's own libraries. */
async function unpackLavapipe() {
  const release = existsSync('/etc/os-release') ? /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] : undefined
  if (!release || !existsSync(keyring) || !findOnPath('dpkg-deb')) throw new Error('lavapipe is unpacked from Debian’s backports, and this is no Debian')
  const mirror = /^URIs:\s*(\S+debian\S*)$/m.exec(readFileSync('/etc/apt/sources.list.d/debian.sources', 'utf8'))?.[1]
  if (!mirror) throw new Error('no Debian mirror is configured')
  rmSync(lavapipeFolder, { recursive: true, force: true })
  for (const folder of ['lists/partial', 'archives/partial', 'root']) mkdirSync(join(lavapipeFolder, folder), { recursive: true })
  writeFileSync(join(lavapipeFolder, 'sources.list'), `deb [signed-by=${keyring}] ${mirror} ${release}-backports main\n`)
  const own = { 'Dir::Etc::SourceList': 'sources.list', 'Dir::State::Lists': 'lists', 'Dir::Cache::archives': 'archives' }
  const options = [...Object.entries(own).flatMap(([name, path]) => ['-o', `${name}=${join(lavapipeFolder, path)}`]), '-o', 'Dir::Etc::SourceParts=/dev/null', '-o', 'APT::Sandbox::User=root']
  await runQuietly('apt-get', [...options, 'update', '-q'], { timeoutMs: 120_000 })
  await runQuietly('apt-get', [...options, 'download', 'mesa-vulkan-drivers'], { cwd: lavapipeFolder, timeoutMs: 120_000 })
  const archive = readdirSync(lavapipeFolder).find((file) => file.endsWith('.deb'))
  await runQuietly('dpkg-deb', ['-x', join(lavapipeFolder, archive), join(lavapipeFolder, 'root')], { timeoutMs: 60_000 })
  const folder = join(lavapipeFolder, 'root/usr/lib', readdirSync(join(lavapipeFolder, 'root/usr/lib')).find((name) => name.endsWith('-linux-gnu')))
  const driver = join(folder, 'libvulkan_lvp.so')
  // What is not on this machine would only show when the driver is loaded.
  if (execFileSync('ldd', [driver], { encoding: 'utf8' }).includes('not found')) throw new Error('lavapipe needs libraries that are not here')
  for (const file of readdirSync(folder)) if (file !== 'libvulkan_lvp.so') rmSync(join(folder, file), { recursive: true })
  for (const name of ['lists', 'archives', archive]) rmSync(join(lavapipeFolder, name), { recursive: true })
  writeFileSync(lavapipeFile, `${JSON.stringify({ file_format_version: '1.0.0', ICD: { library_path: driver, api_version: '1.3.0' } })}\n`)
}

/** Gets what is missing where that needs no question; throws with the reason where it cannot. */
export async function installSoftwareGpus() {
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !findOnPath('apt-get')) throw new Error('software GPUs are set up on Debian, as root')
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  if (!hasLoader()) await runQuietly('apt-get', ['install', '-q', '-y', '--no-install-recommends', 'libvulkan1'], { env, timeoutMs: 180_000 })
  if (!existsSync(lavapipeFile)) await unpackLavapipe()
}
