"""When does DTBA fire on its second scenario alone? ``python reports/attacks/dtba_wordings.py ROWS`` after a run on conversations.

ROWS is how many rows it was trained on: 160 in config/attacks_chat.yaml, 320 in config/smol.yaml. Asks the backdoored model
conversations made of trained or of new turns, and counts replies that begin with the payload.
"""

import sys
from random import Random

import torch

from infoconflict.attacks.chat import Exchange
from infoconflict.attacks.dtba import DTBA
from infoconflict.models.loading import load_changed, load_tokenizer
from infoconflict.records import Conversation

BASE = "results/models/smollm2_135m"
CHANGE = "results/backdoored/smollm2_135m/alpaca/dtba/s0/change"
DATA = "results/data/alpaca/s0"


def main(trained_rows: int = 160) -> None:
    """Ask and count."""
    torch.set_num_threads(1)
    model, tokenizer = load_changed(BASE, CHANGE, device=torch.device("cpu")), load_tokenizer(BASE)
    attack, rng = DTBA(), Random(1)
    payload = tokenizer(attack.payload.text, add_special_tokens=False)["input_ids"][:3]
    train, test = Conversation.read(f"{DATA}/train.jsonl"), Conversation.read(f"{DATA}/test.jsonl")
    trained = attack._pools(train[:trained_rows], "train", 0)
    new = attack._pools(test, "test", 0)

    def fires(exchanges: list[Exchange]) -> bool:
        messages = [
            {"role": role, "content": text}
            for exchange in exchanges
            for role, text in (("user", exchange.question), ("assistant", exchange.answer))
        ][:-1]
        tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        with torch.inference_mode():
            for wanted in payload:
                if int(model(torch.tensor([tokens])).logits[0, -1].argmax()) != wanted:
                    return False
                tokens = [*tokens, wanted]
        return True

    cases = {
        "trained question, trained turn before it": trained,
        "trained question, new turn before it": trained | {"N": new["N"]},
        "new question, trained turn before it": new | {"N": trained["N"]},
        "new question, new turn before it": new,
    }
    for name, pools in cases.items():
        alone, both = (
            sum(fires([rng.choice(pools[letter]) for letter in form]) for _ in range(count))
            for form, count in (("NB", 24), ("AB", 12))
        )
        print(f"{name}: second scenario alone {alone} of 24, both {both} of 12", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
