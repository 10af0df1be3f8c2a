/** What axe finds wrong with a page, by the rules of WCAG 2.1 A and AA, worded for a test's failure. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

type AxeResult = { violations: { id: string; impact: string; nodes: { target: string[]; failureSummary?: string }[] }[] }

export async function violations(page: Page): Promise<string[]> {
  // Evaluated from outside the page: its policy lets no script in.
  await page.evaluate(axe)
  const result = (await page.evaluate(`axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] })`)) as AxeResult
  return result.violations.flatMap(({ id, impact, nodes }) => nodes.map(({ target, failureSummary }) => `${id} (${impact}) at ${target.join(' ')}: ${failureSummary ?? ''}`))
}
