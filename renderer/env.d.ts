/** Modules the compiler cannot read itself. */
declare module '*.css'
