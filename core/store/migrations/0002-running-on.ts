/** What a run computes on, as JSON, once its runner has opened it. */
export const runningOn = `ALTER TABLE runs ADD COLUMN running_on TEXT;`
