import { createWebGpuBackend } from '#core/backend/webgpu/webgpu.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { initialValues, listWeights } from '#core/model/parameters.ts'
import { tinyConfig } from './runs/tiny-library.ts'
const config = tinyConfig({ steps: 10, sequencesPerMicroBatch: null })
const t=performance.now(); const lap=(s:string)=>console.log(s,(performance.now()-t).toFixed(0))
const b = await createWebGpuBackend({ variants: { gemm:'gemm-direct', reduce:'reduce-tree', operand:'f32' }, profile: process.env.PROFILE === '1' })
lap('open')
const trainer = await createTrainer(b, { ...config, sequencesPerMicroBatch: 4, microBatchesPerStep: 1 })
lap('prepared')
for (const tensor of listWeights(trainer.weights)) await b.write(tensor, initialValues(config.model, tensor, config.seed))
lap('written')
const T=128; const ids=Int32Array.from({length:T},(_,i)=>i*7%300)
for (let s=1;s<=5;s++){ const a=await trainer.accumulate([{ids,targets:ids,lossWeights:new Float32Array(T).fill(1/T)}]); lap('encoded'); const l = await a.read(); lap(`loss ${l.crossEntropy}`); const u=await trainer.update(1e-3,s); console.log(await u.read()); lap('updated') }
const p=[...(await b.profile())].sort((x,y)=>y[1]-x[1]); for (const [k,v] of p.slice(0,25)) console.log(k.padEnd(60),(v/1e6/5).toFixed(2),'ms/step')
process.exit(0)
