/** Names of interfaces to cards in the page's language; one that the catalogue does not know (an instruction set, say) keeps its own. */
type Catalogue = { t(key: string): string; te(key: string): boolean }

export const apiName = (api: string, { t, te }: Catalogue): string => (te(`devices.api.${api}`) ? t(`devices.api.${api}`) : api)
