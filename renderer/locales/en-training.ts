/** English of what is done with runs: before the start, under way, side by side, and where they come from. */
export const training = {
  stage: { pretrain: 'Pretrain', anneal: 'Anneal', continue: 'Continue', fork: 'Fork', upcycle: 'Upcycle', import: 'Import' },
  stageFrom: 'New run from step {step}',
  stageText: {
    pretrain: 'From fresh weights.',
    anneal: 'From a checkpoint: the learning rate goes to 0 over data in a new order.',
    continue: 'From a checkpoint: other data or settings, steps from 0.',
    fork: 'A checkpoint as it stands, with changed settings from there.',
    upcycle: 'A dense checkpoint, its network cloned into every expert.',
  },
  chooseCheckpoint: 'Choose a checkpoint',
  checkpointName: '{run}, step {step}',
  before: 'Before the start',
  tokensPerParameter: 'Tokens per active parameter',
  flopsPerToken: 'FLOP per token',
  memory: 'Memory',
  memoryOf: '{needed} of {available}',
  parts: { weights: 'Weights', gradients: 'Gradients', optimizer: 'Optimizer', activations: 'Activations' },
  disk: 'Disk for checkpoints',
  epochs: 'Passes over the data',
  fine: 'Nothing is missing.',
  problem: {
    mixMissing: 'There is no mix {mix}.', vocabularyTooSmall: 'The vocabulary needs {expected} rows, the model has {found}.', startMissing: 'The checkpoint it starts from is not there.', startDamaged: 'The checkpoint it starts from is damaged.',
    upcycleNeedsDense: 'Upcycling needs a checkpoint of a dense model.', forkEndsBefore: 'The fork begins at step {step} and would end at {steps}.', memory: 'It does not fit into memory.', disk: 'There is not enough disk space for its checkpoints.',
    warmupTooLong: 'The warm-up takes {warmup} of {steps} steps.', noWarmup: 'There is no warm-up.', manyEpochs: 'The data is seen {epochs} times.', fewTokens: 'Only {ratio} tokens per parameter.', noLoadBalance: 'Without load balancing experts may die.',
    noCheckpoints: 'No checkpoint before the end of {steps} steps.', annealNotToZero: 'Annealing usually goes to 0.', memoryTight: 'It takes nearly all memory.',
  },
  alerts: {
    title: 'Alerts', dismiss: 'Dismiss', dismissAll: 'Dismiss all', at: 'step {step}', more: 'and one more | and {n} more',
    notFinite: '{field} was not a finite number', lossSpike: 'Loss spike: {value}, before it about {expected}', gradientSpike: 'Gradient spike: {value}, before it about {expected}',
    deadExperts: 'Layer {layer}: one expert gets almost no tokens | Layer {layer}: {n} experts get almost no tokens', overloadedExperts: 'Layer {layer}: one expert gets far more than its share | Layer {layer}: {n} experts get far more than their share',
    skip: 'Roll back and skip',
  },
  change: {
    action: 'Change under way', title: 'Change “{name}”', text: 'It holds from the next step on and becomes part of the recipe.', factor: 'Learning rate times', factorHelp: '1 is as the schedule says', stopAt: 'Stop at step', stopAtHelp: 'The schedule stays as it was.', apply: 'Apply',
  },
  rollBack: {
    action: 'Roll back', title: 'Roll back “{name}”', text: 'The run goes back to a checkpoint and on from there. Later checkpoints are removed.', to: 'Back to', beginning: 'the beginning', step: 'step {step}', skip: 'Skip the data of some steps', from: 'From step', count: 'Steps', apply: 'Roll back and go on',
  },
  history: {
    empty: { title: 'Nothing was changed', text: 'What is changed while the run trains is listed here, since it is part of its result.' },
    learningRate: 'Learning rate times {factor}', stopAt: 'Stop at step {step}', rollBack: 'Rolled back from step {from}', rollBackSkip: 'Rolled back from step {from}; the data of {n} steps from {step} on is skipped', device: 'Went on on {to} instead of {from}', fromStep: 'from step {step} on',
  },
  samples: { empty: { title: 'No samples', text: 'Give prompts in the recipe (control.prompts): the model continues them at each checkpoint.' }, step: 'Step {step}' },
  queue: { title: 'Queue', pause: 'Pause queue', start: 'Start queue', paused: 'Paused: no queued run begins.', up: 'Move {name} up', down: 'Move {name} down', cancel: 'Take {name} out of the queue' },
  list: { search: 'Search', searchLabel: 'Search runs by name, note or tag', archived: 'Archived', archive: 'Archive', unarchive: 'Take out of the archive', compare: 'Compare ({n})', select: 'Select {name} to compare', none: 'No run fits.', alerts: 'one alert | {n} alerts', lineage: 'Lineage' },
  note: { edit: 'Note and tags', title: 'Note and tags of “{name}”', text: 'For yourself; both are searched.', note: 'Note', tags: 'Tags, separated by commas', save: 'Save' },
  compare: {
    title: 'Compare runs', subtitle: 'Curves on one axis, and what differs between the recipes.', series: 'Series', axis: 'Axis', same: 'The recipes are the same.', difference: 'What differs', field: 'Field',
    empty: { title: 'Nothing to compare', text: 'Select two or more runs in the list.' },
  },
  lineage: { title: 'Lineage', subtitle: 'What came from what: sources, mixes, runs, checkpoints.', kind: { source: 'Sources', mix: 'Mixes', run: 'Runs', checkpoint: 'Checkpoints' }, empty: { title: 'Nothing yet', text: 'The graph begins with the first run.' } },
}
