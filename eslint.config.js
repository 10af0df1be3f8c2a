/**
 * Lint: the rules the compiler cannot hold. Correctness first (floating promises are checked with types), then the
 * project's own style: no default exports, imports never climb with `../..`, no console in product code. Which folder
 * may import which is held as one table by tests/structure/imports.test.ts; here are only the bans that are cheap to
 * show while typing.
 */
import vue from 'eslint-plugin-vue'
import vueAccessibility from 'eslint-plugin-vuejs-accessibility'
import tseslint from 'typescript-eslint'

const climbing = { regex: '^\\.\\./\\.\\.', message: 'Climb with a subpath import instead: #core/…, #native/…, #renderer/…' }
const node = { regex: '^node:', message: 'This folder is free of Node.' }
const electron = { regex: '^electron($|/)', message: 'Only electron/ knows Electron.' }
const core = { regex: '^#core/(?!shared/)', message: 'The page knows core/shared only.' }

const restrict = (...patterns) => ({ 'no-restricted-imports': ['error', { patterns: [climbing, ...patterns] }] })

const noDefaultExport = {
  selector: 'ExportDefaultDeclaration',
  message: 'No default exports: a name is found by search and renamed by the editor.',
}

export default tseslint.config(
  { ignores: ['node_modules/', '.setup/', 'out/', 'dist/', 'native/build/', 'resources/sample/', 'tests/.output/', 'tests/fixtures/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  ...tseslint.configs.recommended,
  {
    files: ['**/*.{ts,mjs,js,vue}'],
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-console': 'error',
      'no-restricted-syntax': ['error', noDefaultExport],
      'object-shorthand': 'error',
      'prefer-const': ['error', { destructuring: 'all' }],
      '@typescript-eslint/consistent-type-definitions': ['error', 'type'],
      '@typescript-eslint/consistent-type-imports': 'error',
      // An index inside the bounds of a loop is asserted with `!`: the compiler cannot see the bound.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'none' }],
      ...restrict(electron),
    },
  },
  {
    files: ['core/**/*.ts', 'native/**/*.ts', 'electron/**/*.ts', 'tests/**/*.ts'],
    ignores: ['tests/renderer/**'],
    languageOptions: {
      parserOptions: { project: ['./tsconfig.node.json', './tsconfig.electron.json', './tsconfig.e2e.json'], tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
    },
  },
  { files: ['core/shared/**/*.ts', 'core/model/**/*.ts'], rules: restrict(electron, node) },
  { files: ['renderer/**/*.{ts,vue}'], ignores: ['renderer/vite.config.ts'], rules: restrict(electron, node, core) },
  { files: ['electron/**/*.ts', 'tests/electron/**/*.ts', 'electron.vite.config.ts'], rules: restrict() },
  { files: ['resources/scripts/*.mjs'], rules: { 'no-console': 'off' } },
  // What talks to a person at a terminal; what tests print is judged when they run.
  { files: ['core/cli.ts', 'tests/**/*.ts'], rules: { 'no-console': 'off' } },
  ...vue.configs['flat/recommended'].map((config) => ({ ...config, files: ['**/*.vue'] })),
  ...vueAccessibility.configs['flat/recommended'].map((config) => ({ ...config, files: ['**/*.vue'] })),
  {
    files: ['**/*.vue'],
    languageOptions: { parserOptions: { parser: tseslint.parser } },
    rules: {
      'no-restricted-syntax': 'off',
      'no-undef': 'off',
      // Layout of templates is a matter of taste that no reader is helped by.
      'vue/max-attributes-per-line': 'off',
      'vue/singleline-html-element-content-newline': 'off',
      'vue/multiline-html-element-content-newline': 'off',
      'vue/html-self-closing': 'off',
      'vue/html-indent': 'off',
      'vue/html-closing-bracket-newline': 'off',
      'vue/first-attribute-linebreak': 'off',
      'vue/multi-word-component-names': 'off',
      'vue/require-default-prop': 'off',
      // v-html would carry model output into the page as markup.
      'vue/no-v-html': 'error',
    },
  },
  { files: ['**/*.config.{ts,js}', '**/*.d.ts'], rules: { 'no-restricted-syntax': 'off' } },
)
