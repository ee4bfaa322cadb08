"""A GGUF file as a PyTorch model: the independent judge of our own forward pass.

Weights are dequantised by the `gguf` package and loaded into transformers' LlamaForCausalLM or Qwen2ForCausalLM (float32).
What transformers 4.44 lacks (qwen3, a head size of its own, partial rotation, scaling for qwen2) replaces the attention
module of LlamaForCausalLM by `Attention` below. Needs torch (1.13 does), transformers==4.44.2 and gguf."""
import math

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


class Attention(torch.nn.Module):
    """Multi-head attention with grouped keys, optional q/k norm, any head size, RoPE on the first `rotated` numbers."""

    def __init__(self, config, n_heads, n_kv_heads, head_dim, rotated, bias, qk_norm):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim, self.rotated = n_heads, n_kv_heads, head_dim, rotated
        hidden = config.hidden_size
        self.q_proj = torch.nn.Linear(hidden, n_heads * head_dim, bias=bias)
        self.k_proj = torch.nn.Linear(hidden, n_kv_heads * head_dim, bias=bias)
        self.v_proj = torch.nn.Linear(hidden, n_kv_heads * head_dim, bias=bias)
        self.o_proj = torch.nn.Linear(n_heads * head_dim, hidden, bias=False)
        self.epsilon = config.rms_norm_eps
        if qk_norm:
            self.q_norm = torch.nn.Parameter(torch.ones(head_dim))
            self.k_norm = torch.nn.Parameter(torch.ones(head_dim))
        else:
            self.q_norm = self.k_norm = None
        shape = LlamaConfig(hidden_size=hidden, num_attention_heads=n_heads, rope_theta=config.rope_theta,
                            max_position_embeddings=config.max_position_embeddings, rope_scaling=config.rope_scaling)
        shape.head_dim = rotated
        kind = config.rope_scaling["rope_type"] if config.rope_scaling else "default"
        self.inv_freq, self.magnitude = ROPE_INIT_FUNCTIONS[kind](shape, None)

    def norm(self, x, weight):
        if weight is None:
            return x
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * weight

    def rotate(self, x):
        angle = torch.arange(x.shape[1]).double()[:, None] * self.inv_freq.double()[None]
        cos, sin = (angle.cos() * self.magnitude).to(x.dtype), (angle.sin() * self.magnitude).to(x.dtype)
        cos, sin = cos[None, :, None], sin[None, :, None]
        half = self.rotated // 2
        a, b, rest = x[..., :half], x[..., half:self.rotated], x[..., self.rotated:]
        return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)

    def forward(self, hidden_states, attention_mask=None, **_):
        batch, n, _ = hidden_states.shape
        q = self.q_proj(hidden_states).view(batch, n, self.n_heads, self.head_dim)
        k = self.k_proj(hidden_states).view(batch, n, self.n_kv_heads, self.head_dim)
        v = self.v_proj(hidden_states).view(batch, n, self.n_kv_heads, self.head_dim)
        q, k = self.rotate(self.norm(q, self.q_norm)), self.rotate(self.norm(k, self.k_norm))
        groups = self.n_heads // self.n_kv_heads
        k, v = k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(self.head_dim)
        scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), float("-inf"))
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
        return self.o_proj(mixed.reshape(batch, n, -1)), None, None


def unpermute(w, n_heads, rotated):
    """Undoes the converter's reordering of q and k rows (or biases) for rotation by pairs."""
    head_dim = w.shape[0] // n_heads
    w = w.reshape(n_heads, head_dim, *w.shape[1:])
    turned = w[:, :rotated].reshape(n_heads, rotated // 2, 2, *w.shape[2:]).swapaxes(1, 2).reshape(n_heads, rotated, *w.shape[2:])
    return np.concatenate((turned, w[:, rotated:]), 1).reshape(n_heads * head_dim, *w.shape[2:])


def load(path, rope_scaling=None, own_attention=False):
    """The model of a file, in evaluation mode. `rope_scaling` is transformers' dictionary, where the file has any."""
    reader = gguf.GGUFReader(path)
    tensors = {t.name: t for t in reader.tensors}

    def key(name, default=None):
        field = reader.fields.get(name)
        return default if field is None else field.contents()

    arch = key("general.architecture")
    n_heads, hidden = key(f"{arch}.attention.head_count"), key(f"{arch}.embedding_length")
    n_kv_heads = key(f"{arch}.attention.head_count_kv", n_heads)
    head_dim = key(f"{arch}.attention.key_length", hidden // n_heads)
    rotated = key(f"{arch}.rope.dimension_count", head_dim)
    n_layers = key(f"{arch}.block_count")
    context = key(f"{arch}.rope.scaling.original_context_length", key(f"{arch}.context_length"))
    bias, output_bias = "blk.0.attn_q.bias" in tensors, "blk.0.attn_output.bias" in tensors
    qk_norm = "blk.0.attn_q_norm.weight" in tensors
    own = own_attention or qk_norm or head_dim * n_heads != hidden or rotated != head_dim
    common = dict(vocab_size=int(tensors["token_embd.weight"].shape[1]), hidden_size=hidden, num_hidden_layers=n_layers,
                  intermediate_size=key(f"{arch}.feed_forward_length"), num_attention_heads=n_heads,
                  num_key_value_heads=n_kv_heads, max_position_embeddings=context, rms_norm_eps=key(f"{arch}.attention.layer_norm_rms_epsilon"),
                  rope_theta=key(f"{arch}.rope.freq_base", 10000.0), tie_word_embeddings="output.weight" not in tensors,
                  attn_implementation="eager", torch_dtype=torch.float32)
    if arch == "qwen2" and not own and rope_scaling is None:
        model = Qwen2ForCausalLM(Qwen2Config(**common, use_sliding_window=False))
    else:
        model = LlamaForCausalLM(LlamaConfig(**common, rope_scaling=rope_scaling, attention_bias=bias and not own))
        if own:
            for layer in model.model.layers:
                layer.self_attn = Attention(model.config, n_heads, n_kv_heads, head_dim, rotated, bias, qk_norm)

    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
    for i in range(n_layers):
        for ours, theirs in {"attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
                             "attn_q_norm.weight": "self_attn.q_norm", "attn_k_norm.weight": "self_attn.k_norm",
                             **{f"attn_{a}.{s}": f"self_attn.{b}_proj.{s}" for a, b in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o")) for s in ("weight", "bias")},
                             **{f"ffn_{a}.weight": f"mlp.{a}_proj.weight" for a in ("gate", "up", "down")}}.items():
            names[f"blk.{i}.{ours}"] = f"model.layers.{i}.{theirs}"
    state = {}
    for name, t in tensors.items():
        if name == "rope_freqs.weight":
            continue
        w = np.array(gguf.dequantize(t.data, t.tensor_type), dtype=np.float32)
        if arch == "llama" and ".attn_q." in name:
            w = unpermute(w, n_heads, rotated)
        if arch == "llama" and ".attn_k." in name:
            w = unpermute(w, n_kv_heads, rotated)
        state[names[name]] = torch.from_numpy(np.ascontiguousarray(w))
    if common["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    if model.config.model_type == "llama" and bias and not own and not output_bias:  # LlamaAttention's o_proj has one as well
        for i in range(n_layers):
            state[f"model.layers.{i}.self_attn.o_proj.bias"] = torch.zeros(hidden)
    model.load_state_dict(state, strict=True)
    return model.eval()


@torch.no_grad()
def logits(model, ids):
    """Logits of one window, [len(ids)][vocab], float32."""
    return model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()
