"""Trains a byte-level BPE with Hugging Face's Rust tokenizers, which take a vocabulary size only here: prints the seconds of it.

train-tokenizer.py TEXT VOCABULARY THREADS OUT
"""

import os
import sys
import time

text, vocabulary, threads, out = sys.argv[1:]
os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == "1" else "true"
os.environ["RAYON_NUM_THREADS"] = threads

from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
trainer = trainers.BpeTrainer(vocab_size=int(vocabulary), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
started_at = time.perf_counter()
tokenizer.train([text], trainer)
print(time.perf_counter() - started_at)
tokenizer.save(out)
