"""The job as a person would write it with TRL, plainly. Run as: python script.py FOLDER STEPS MICRO ACCUMULATION"""

import sys

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

folder, steps, micro, accumulation = sys.argv[1], *map(int, sys.argv[2:5])

trainer = SFTTrainer(
    model=f"{folder}/model",
    args=SFTConfig(
        output_dir=f"{folder}/script",
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        warmup_steps=int(0.03 * steps),
        max_length=512,
        assistant_only_loss=True,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        seed=1,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    ),
    train_dataset=load_dataset("json", data_files=f"{folder}/chats.jsonl", split="train"),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
trainer.save_model()
