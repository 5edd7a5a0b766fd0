"""The example of an exported folder."""

from stages.deployment.description import ModelDescription

ONNX_EXAMPLE = '''\
"""Run: pip install onnxruntime tokenizers; python example.py"""
import pathlib, numpy, onnxruntime, tokenizers
here = pathlib.Path(__file__).parent
tokenizer = tokenizers.Tokenizer.from_file(str(here / "tokenizer.json"))
tokenizer.enable_truncation({max_length})
tokenizer.enable_padding(pad_id={pad})
rows = tokenizer.encode_batch({rows})
model = onnxruntime.InferenceSession(here / "model.onnx")
fields = {{"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}}
inputs = {{i.name: numpy.array([getattr(row, fields[i.name]) for row in rows]) for i in model.get_inputs()}}
logits = model.run(["logits"], inputs)[0]
{answer}
'''

PYTORCH_EXAMPLE = '''\
"""Run: pip install torch {package}; python example.py"""
import pathlib
{imports}
here = pathlib.Path(__file__).parent
tokenizer = AutoTokenizer.from_pretrained(here)
model = {load}
rows = {columns}
inputs = tokenizer(*rows, truncation=True, max_length={max_length}, padding=True, return_tensors="pt")
logits = model(**inputs).logits
{answer}
'''

SENTENCES = ("A film that I would gladly see again.", "It was dull, and far too long.")


def example_code(form: str, description: ModelDescription, pad: int, own_class: bool) -> str:
    """A Python program of about ten lines that labels two rows with the model beside it. ``own_class``: the model is of
    a class of this project."""
    task = description.task
    columns = [list(SENTENCES)] * len(task.text)
    if form != "safetensors":
        rows = list(zip(*columns, strict=True)) if task.pair else columns[0]
        answer = (
            "print(logits[:, 0])"
            if task.labels is None
            else f"print([{list(task.labels)}[label] for label in logits.argmax(-1)])"
        )
        return ONNX_EXAMPLE.format(max_length=description.max_length, pad=pad, rows=rows, answer=answer)
    auto = "AutoModelForSequenceClassification"
    imports = "import stillhouse\nfrom transformers import AutoTokenizer"
    answer = "print(logits[:, 0].tolist())"
    if task.labels is not None:
        answer = "print([model.config.id2label[label] for label in logits.argmax(-1).tolist()])"
    return PYTORCH_EXAMPLE.format(
        package="stillhouse" if own_class else "transformers",
        imports=imports if own_class else f"from transformers import {auto}, AutoTokenizer",
        load="stillhouse.load_model(here)" if own_class else f"{auto}.from_pretrained(here)",
        columns=columns,
        max_length=description.max_length,
        answer=answer,
    )
