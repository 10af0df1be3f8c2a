/** The page for whoever has no session: plain HTML without a script, in the browser's language, that says where the link is. */
import { createHash } from 'node:crypto'
import { commonHeaders } from './files.ts'

export type SignInReason = 'none' | 'used' | 'wrong' | 'throttled'

const words = {
  en: {
    title: 'Sign in to MoE Workbench',
    none: 'This workbench opens with the link that was printed in the terminal it was started from. It works once, then this browser stays signed in until the workbench stops.',
    used: 'This link has been used before. A fresh one was printed in the terminal just now.',
    wrong: 'This is not the token of the workbench that is running. It has another one each time it starts: look for the newest link in the terminal.',
    throttled: 'Too many wrong tokens. Wait a minute, then use the newest link in the terminal.',
    label: 'Link or token from the terminal',
    submit: 'Sign in',
    again: 'Already signed in? Open the workbench',
  },
  zh: {
    title: '登录 MoE Workbench',
    none: '请使用启动工作台的终端中打印的链接打开。链接只能使用一次，之后本浏览器会保持登录，直到工作台停止。',
    used: '此链接已被使用过。终端中刚刚打印了一个新链接。',
    wrong: '这不是当前运行的工作台的令牌。每次启动都会生成新的令牌：请在终端中查找最新的链接。',
    throttled: '错误的令牌过多。请稍等一分钟，然后使用终端中最新的链接。',
    label: '终端中的链接或令牌',
    submit: '登录',
    again: '已经登录？打开工作台',
  },
} as const

const style = `:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:34rem;margin:15vh auto;padding:0 1.5rem}
h1{font-size:1.4rem}label{display:block;font-weight:600}input{box-sizing:border-box;width:100%;font:inherit;padding:.5rem;margin:.4rem 0 .8rem}
button{font:inherit;padding:.5rem 1.2rem}`

const styleHash = createHash('sha256').update(style).digest('base64')

/** Headers of the page: no script at all, one style by its hash, one form back to here. */
export const signInHeaders: Record<string, string> = {
  'Content-Type': 'text/html; charset=utf-8',
  'Cache-Control': 'no-store',
  'Content-Security-Policy': `default-src 'none'; style-src 'sha256-${styleHash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`,
  ...commonHeaders,
}

export const signInStatus: Record<SignInReason, number> = { none: 401, used: 401, wrong: 403, throttled: 429 }

/** The page; `language` is the request's Accept-Language. Nothing of the request is in it. */
export function signInPage(reason: SignInReason, language: string | undefined): string {
  const isChinese = /^\s*zh\b/i.test(language ?? '')
  const text = isChinese ? words.zh : words.en
  return `<!doctype html>
<html lang="${isChinese ? 'zh-CN' : 'en'}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${text.title}</title><style>${style}</style></head>
<body><main><h1>${text.title}</h1><p${reason === 'none' ? '' : ' role="alert"'}>${text[reason]}</p>
<form method="post" action="/sign-in"><label for="token">${text.label}</label><input id="token" name="token" autocomplete="off" spellcheck="false" required autofocus><button>${text.submit}</button></form>
<p><a href="/">${text.again}</a></p></main></body></html>
`
}
