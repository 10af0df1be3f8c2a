/** English words of the API in the settings. */
export const apiServer = {
  title: 'API',
  on: 'Let programs on this machine use the models',
  text: 'An OpenAI-compatible API on this machine only. It needs a key, which can use models and nothing else.',
  address: 'Address',
  copyAddress: 'Copy the address',
  used: 'Since the start',
  counts: '{n} request, {failed} refused, {tokens} tokens written | {n} requests, {failed} refused, {tokens} tokens written',
  keys: 'Keys',
  newKey: 'Your new key',
  once: 'It is shown only now: the workbench keeps a hash of it.',
  copyKey: 'Copy the key',
  addKey: 'Make a key',
  removeOf: 'Remove key {key}…',
  removeTitle: 'Remove this key?',
  removeText: 'Programs that use it are refused from now on.',
  remove: 'Remove key',
}
