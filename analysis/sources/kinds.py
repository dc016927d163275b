"""The formats by the names of their modules, in the order in which they are asked: the more particular first.

Here and not in the modules, which import pandas: --help lists them at once.
"""

KINDS = {
    "wandb_csv": "CSV files that W&B exports: charts, the table of runs, or a folder of both",
    "tensorboard": "TensorBoard event files, or a folder of them",
    "mlflow": "MLflow's SQLite database or its folder mlruns/",
    "wandb": "offline folders of Weights & Biases (wandb/offline-run-*)",
    "hf_trainer": "trainer_state.json of Hugging Face's Trainer, or a folder of its runs",
    "nano_log": "text logs of nanoGPT, nanochat and modded-nanogpt",
    "lm_eval": "results_*.json of lm-evaluation-harness, or a folder of them: task scores",
    "big_bench": "score files of BIG-bench: task scores",
    "sql": "the table of a SQLite or DuckDB file, or a SELECT in a .sql file (DuckDB)",
    "history_files": "a folder of runs, each with its history (JSON Lines or CSV) and settings (JSON or YAML)",
}
