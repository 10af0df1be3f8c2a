/**
 * Series of a million points: beside every series the extremes of its buckets of 16, 64, … 16384 steps (level 1 to 6), so that any
 * range is drawn from a few thousand rows. Alerts, interventions and samples of runs; what a user notes of a run; experiments.
 */
const levels = [1, 2, 3, 4, 5, 6]
const backfill = levels.map((level) => {
  const width = 4 * 4 ** level
  const extreme = (what: 'min' | 'max'): string => `SELECT run, key, step / ${width} AS bucket, step, ${what}(value) AS value FROM metrics GROUP BY run, key, step / ${width}`
  return `INSERT INTO metric_buckets SELECT low.run, low.key, ${level}, low.bucket, low.step, low.value, high.step, high.value
    FROM (${extreme('min')}) AS low JOIN (${extreme('max')}) AS high USING (run, key, bucket);`
})

export const runsAtScale = `
CREATE TABLE metric_buckets (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  key INTEGER NOT NULL REFERENCES metric_keys,
  level INTEGER NOT NULL,
  bucket INTEGER NOT NULL,
  low_step INTEGER NOT NULL,
  low REAL NOT NULL,
  high_step INTEGER NOT NULL,
  high REAL NOT NULL,
  PRIMARY KEY (run, key, level, bucket)
) STRICT, WITHOUT ROWID;
${backfill.join('\n')}

CREATE TABLE alerts (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  step INTEGER NOT NULL,
  at REAL NOT NULL,
  alert TEXT NOT NULL,
  dismissed_at REAL
) STRICT;
CREATE INDEX alerts_by_run ON alerts (run, step);

CREATE TABLE interventions (
  number INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  step INTEGER NOT NULL,
  at REAL NOT NULL,
  intervention TEXT NOT NULL
) STRICT;
CREATE INDEX interventions_by_run ON interventions (run, number);

CREATE TABLE samples (
  run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
  step INTEGER NOT NULL,
  prompt INTEGER NOT NULL,
  sample TEXT NOT NULL,
  PRIMARY KEY (run, step, prompt)
) STRICT;

CREATE TABLE experiments (
  id TEXT PRIMARY KEY,
  created_at REAL NOT NULL,
  experiment TEXT NOT NULL
) STRICT;

ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN archived_at REAL;
ALTER TABLE runs ADD COLUMN experiment_id TEXT REFERENCES experiments ON DELETE SET NULL;
ALTER TABLE runs ADD COLUMN arm TEXT;
CREATE INDEX runs_by_experiment ON runs (experiment_id) WHERE experiment_id IS NOT NULL;
`
