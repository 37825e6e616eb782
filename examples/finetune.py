"""Fine-tunes a language model with the Trainer of Hugging Face's Transformers. It doesn't know katib-flow.

    pip install torch transformers datasets accelerate
    python examples/finetune.py --model Qwen/Qwen2.5-0.5B --data stories --learning_rate 2e-5

``--data`` is a dataset of the Hugging Face Hub, or a directory with train.csv and validation.csv, with a column
``text``. The Trainer prints its metrics as dicts, {'loss': 2.52, ...} and {'eval_loss': 2.31, ...}, which
metrics.format: json reads.
"""

import argparse
import tempfile

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="name on the Hub, or directory")
    parser.add_argument("--data", required=True, help="name on the Hub, or directory")
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--weight_decay", type=float, default=0.0)
    parser.add_argument("--warmup_steps", type=int, default=0)
    parser.add_argument("--scheduler", default="linear")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--examples", type=int, default=2000, help="at most so many to train on")
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    data = load_dataset(args.data)
    data["train"] = data["train"].select(range(min(args.examples, len(data["train"]))))
    texts = data.map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=512),
        batched=True,
        remove_columns=data["train"].column_names,
    )
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(args.model),
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            learning_rate=args.learning_rate,
            weight_decay=args.weight_decay,
            warmup_steps=args.warmup_steps,
            lr_scheduler_type=args.scheduler,
            per_device_train_batch_size=args.batch_size,
            num_train_epochs=args.epochs,
            logging_steps=10,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=texts["train"],
        eval_dataset=texts["validation"],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()


if __name__ == "__main__":
    main()
