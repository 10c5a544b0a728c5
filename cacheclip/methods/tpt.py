"""TPT: for each picture the words before the class name move until its views agree."""

from torch import Tensor

from cacheclip.heads.prompts import class_features
from cacheclip.heads.test_time import Own, entropy
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.methods.base import ClosedForm, Params, Reads, Setting
from cacheclip.task import Query, Task, unit

CROPS = "image/views"


class Tpt(ClosedForm):
    """Zero-shot by words that one step has moved for this picture alone (2209.07511, eq. 2 to 4).

    The prompt is "[v_1] ... [v_M] name.", which starts as "a photo of a name." for every picture
    anew. Of W views, the picture and W - 1 crops of it, the share `surest` of least entropy stay; a
    step of AdamW (lr 5e-3, decay 0.01) takes the entropy of their mean prediction down, and the
    picture as it is is answered for. With `rounds=0` it is zero-shot by that prompt.

    No label is read and nothing is chosen. The release crops 8 % of the area or more, and of its
    fine-grained sets mixes colours in (AugMix); here a crop is half of the picture or more, the
    same in every run (`extract --query-views`), and nothing is mixed. It computes in fp16, here it
    is float32. The rate counts in the size of words: the tower stands before the logit scale.
    """

    paper = "2209.07511"
    learns = "nothing"
    reads = Reads(
        support=(),
        query=("image", CROPS),
        text=("tokens",),
        encoder=("tower",),
        query_encoder=("tower",),
    )
    table = {
        "views": Setting(64, 2, 1000, shape=True, elsewhere="N; batch-size"),
        "surest": Setting(0.1, 0.0, 1.0, shape=True, elsewhere="rho; selection_p"),
        "rounds": Setting(1, 0, 100, shape=True, elsewhere="; tta_steps"),
        "lr": Setting(5e-3, 0.0),
    }

    def solve(self, task: Task) -> Params:
        """The words of "a photo of a"; what is learned is learned for each picture."""
        lr = task.settings["lr"]
        tower = TextTransformer.of(task.encoder["tower"], lr.dtype)
        words = tower.embed(task.encoder["tower"]["context"])  # [M, d]
        return {
            "words": words.expand(task.variants, -1, -1),
            "tokens": task.text["tokens"].expand(task.variants, -1, -1),
            "lr": lr,
            "logit_scale": words.new_full((task.variants,), task.logit_scale),
        }

    def logits(self, params: Params, query: Query) -> Tensor:
        """[V, n, C]; each of the P = V n pictures has words of its own."""
        tower = TextTransformer.of(query.encoder["tower"], params["words"].dtype)
        V, n = len(params["words"]), len(query)
        x = query["image"].expand(V, n, -1).reshape(V * n, 1, -1)  # [P, 1, D]
        views = query[CROPS].expand(V, n, *query[CROPS].shape[-2:]).flatten(0, 1)  # [P, W, D]
        start, lr, scale = (
            params[name].repeat_interleave(n, 0) for name in ("words", "lr", "logit_scale")
        )

        def text_by(words: Tensor) -> Tensor:
            return unit(class_features(tower, params["tokens"][0], words))  # [P, C, D]

        def scores(pictures: Tensor, text: Tensor) -> Tensor:
            return scale[:, None, None] * (pictures @ text.mT)

        text = text_by(params["words"]).repeat_interleave(n, 0)  # the same for all before a step
        unsure = entropy(scores(views, text).unsqueeze(-2))  # [P, W]
        most = max(1, int(float(self.settings["surest"]) * views.shape[1]))
        sure = unsure.topk(most, largest=False).indices[..., None]
        views = views.gather(1, sure.expand(-1, -1, views.shape[-1]))  # [P, most, D]
        words = Own(start, lr)
        for _ in range(int(self.settings["rounds"])):
            words.step(lambda own: entropy(scores(views, text_by(own))))
            text = text_by(words.value)
        return scores(x, text).view(V, n, -1)
