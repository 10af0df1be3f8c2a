/** What differs between recipes: one row per field that is not the same in all of them, by its path; names are no difference. */

export type Difference = { path: string; values: string[] }

export function differences(recipes: readonly object[]): Difference[] {
  const flat = recipes.map((recipe) => flatten(recipe))
  const paths = [...new Set(flat.flatMap((one) => [...one.keys()]))].filter((path) => path !== 'name')
  return paths.map((path) => ({ path, values: flat.map((one) => one.get(path) ?? '–') })).filter(({ values }) => new Set(values).size > 1)
}

/** Lists are one value: their places mean something together. */
function flatten(value: object, prefix = ''): Map<string, string> {
  const found = new Map<string, string>()
  for (const [key, inner] of Object.entries(value)) {
    if (typeof inner === 'object' && inner !== null && !Array.isArray(inner)) for (const [path, text] of flatten(inner as object, `${prefix}${key}.`)) found.set(path, text)
    else found.set(prefix + key, JSON.stringify(inner))
  }
  return found
}
