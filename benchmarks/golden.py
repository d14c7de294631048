"""Trains short runs of all kinds, and compares their numbers with those of another version, bit for bit.

  python -m benchmarks.golden --json=build/golden.json                 writes the hashes
  python -m benchmarks.golden --json=build/golden.json --compare       trains again, and says which runs differ

A refactoring should change no number. The hashes depend on the processor and on the libraries, so both versions must
run on one machine.
"""

import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from absl import app, flags

from flowgan_tf.base.files import write_atomically
from flowgan_tf.runs.log import read_metrics

FLAGS = flags.FLAGS
flags.DEFINE_string('json', None, 'File of the hashes.', required=True)
flags.DEFINE_bool('compare', False, 'Whether to compare with the hashes in the file instead of writing them.')
flags.DEFINE_list('only', [], 'Names of the runs to train. Default: all.')
flags.DEFINE_string('checkout', None, 'Folder of the version that trains. Default: this one.')

_ROOT = pathlib.Path(__file__).parent.parent
_ALWAYS = """--config=configs/digits.py --config.score_samples=0 --batch_size=32 --steps=12 --config.eval_every=6
  --config.log_every=3 --evaluate=false"""
_CRITIC = '--config.dcgan_critic.channels=(4,8) --config.dcgan_critic.dense_units=8'
_MODERN = f'{_CRITIC} --divergence=relativistic --critic_steps=1 --config.reuse_batch=true --config.critic_warmup=2'
_NICE = '--config.nice.hidden_units=16 --config.nice.hidden_layers=1'
_JET = """--nojit --generator=jet --config.jet.width=8 --config.jet.hidden_units=8 --config.jet.patch_size=2
  --config.jet.couplings=4"""

#: The flags of each run.
RUNS = {
  'mle': f'{_NICE} --objective=mle',
  'hybrid': f'{_NICE} {_CRITIC} --objective=hybrid --lambda=0.1 --config.final_lambda=0.01 --critic_steps=2',
  'transport': f"""{_NICE} {_MODERN} --objective=adversarial --config.transport_weight=10
    --config.final_transport_weight=1""",
  'pseudo_labels': f"""{_NICE} {_MODERN} --objective=hybrid --config.penalty_interval=2 --config.nice.components=10
    --config.pseudo_labels=true --nojit""",
  'few_labels': f"""{_NICE} --objective=mle --condition=label --config.labelled=100
    --config.class_weight=10 --config.class_temperature=2 --config.nice.components=20
    --config.nice.condition_networks=false""",
  'jet_label': f"""{_JET} {_MODERN} --objective=hybrid --condition=label --config.jet.components=20
    --config.class_weight=1""",
  'low_resolution': f"""{_JET} {_MODERN} --objective=hybrid --condition=low_resolution:2 --config.consistency_weight=5
    --config.flip=true""",
  'histograms': f"""{_JET} --objective=mle --config.jet.histogram_bins=17 --config.jet.histogram_networks=2
    --config.jet.histogram_channels=4 --config.jet.histogram_blocks=1 --config.shift=1""",
  'real_nvp': """--objective=mle --generator=real_nvp --config.real_nvp.channels=4 --config.real_nvp.blocks=1
    --precision=mixed_bfloat16 --nojit""",
  'dcgan': f"""{_CRITIC} --objective=adversarial --generator=dcgan --condition=label --divergence=jensen_shannon --nojit
    --config.dcgan.channels=(8,4)""",
  'table': '--objective=mle --generator=vectors --dataset={table} --nojit --config.vectors.hidden_units=8',
}


def numbers_of(run: pathlib.Path) -> dict[str, str]:
  """Returns a hash of each part of the last checkpoint, and of the numbers in the log."""
  path = tf.train.latest_checkpoint(run / 'checkpoints' / 'latest')
  parts: dict[str, hashlib._Hash] = {}
  reader = tf.train.load_checkpoint(path)
  for name in sorted(reader.get_variable_to_shape_map()):
    part = name.partition('/')[0]
    if part not in ('run', '_CHECKPOINTABLE_OBJECT_GRAPH', 'save_counter'):
      value = reader.get_tensor(name)
      parts.setdefault(part, hashlib.sha256()).update(name.encode() + value.tobytes())
  log = [{k: v for k, v in record.items() if k not in ('seconds', 'time')} for record in read_metrics(run)]
  hashes = {name: digest.hexdigest()[:16] for name, digest in parts.items()}
  return hashes | {'log': hashlib.sha256(json.dumps(log, sort_keys=True).encode()).hexdigest()[:16]}


def main(_: list[str]) -> int:
  """Trains the runs one after the other, and writes or compares their hashes."""
  found, root = {}, pathlib.Path(FLAGS.checkout or _ROOT)
  with tempfile.TemporaryDirectory() as folder:
    table = pathlib.Path(folder, 'table.npz')
    rng = np.random.default_rng(0)
    np.savez(
      table, x_train=rng.normal(size=(300, 4)).astype('float32'), x_test=rng.normal(size=(60, 4)).astype('float32')
    )
    for name in FLAGS.only or RUNS:
      workdir = pathlib.Path(folder, name)
      given = [*shlex.split(_ALWAYS), *shlex.split(RUNS[name].replace('{table}', str(table))), f'--workdir={workdir}']
      command = [sys.executable, str(root / 'bin' / 'train'), *given]
      done = subprocess.run(
        command, cwd=root, env=os.environ | {'PYTHONPATH': str(root)}, capture_output=True, text=True
      )
      if done.returncode:
        raise SystemExit(f'{name}: {done.stderr.strip().splitlines()[-1]}')
      found[name] = numbers_of(workdir)
      print(name, found[name]['generator'], found[name]['log'], flush=True)
  path, status = pathlib.Path(FLAGS.json), 0
  old = json.loads(path.read_text()) if FLAGS.compare or path.exists() else {}
  if not FLAGS.compare:
    write_atomically(path, json.dumps(old | found, indent=1))
    return 0
  for name in FLAGS.only or found | old:
    hashes, before = found.get(name, {}), old.get(name, {})
    if changed := [part for part in hashes | before if hashes.get(part) != before.get(part)]:
      print(f'{name}: {", ".join(changed)} differ')
      status = 1
  print('differences' if status else 'bit for bit the same')
  return status


if __name__ == '__main__':
  app.run(main)
