from flowgan_tf.runs.history import read_metrics


def test_no_metrics_yet(tmp_path):
  assert read_metrics(tmp_path) == []


def test_lines_that_are_no_records_are_left_out(tmp_path):
  good = b'{"kind": "train", "step": 3, "seconds": 1.0}\n'
  (tmp_path / 'metrics.jsonl').write_bytes(b'\xff\xfe\n5\n{"a": 1}\n' + good + b'{"step": "x", "seconds": 1}\n{"ste')
  assert [record['step'] for record in read_metrics(tmp_path)] == [3]
