/** The steps of a mix in the making, in their order. */
export const steps = ['sources', 'filters', 'tokenizer', 'shares', 'build'] as const
export type Step = (typeof steps)[number]
