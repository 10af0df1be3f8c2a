/** One colour per source of a mix, by its place: the six of the charts, which common kinds of colour vision tell apart, then one hue each. Names always stand beside them. */
import { expertColour } from '#renderer/ui/colour.ts'

const chartColours = 6

export const sourceColour = (place: number): string => (place < chartColours ? `var(--line-${place + 1})` : expertColour(place))
