"""The types of models (`model_type` of config.json) that the libraries know: lists that a test compares with theirs."""

from collections.abc import Mapping

_GPTQMODEL = """
afmoe agnes apertus apertus1p5 apertus1p5_text axk2 baichuan bailing_hybrid bailing_moe bloom brumby chatglm codegen
cohere cohere2 cohere2_moe cohere_compass dbrx dbrx_converted deci deepseek_ocr2 deepseek_v2 deepseek_v3 deepseek_v32
deepseek_v4 deepseek_vl deepseek_vl_v2 diffusion_gemma dots1 dream ernie4_5 ernie4_5_moe ernie4_5_moe_vl
ernie4_5_vl_moe exaone exaone4 exaone4_5 exaone4_5_text falcon falcon_h1 falcon_mamba gemma gemma2 gemma3 gemma3_text
gemma3n gemma3n_text gemma4 gemma4_text gemma4_unified gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm4v
glm4v_moe glm4v_moe_text glm5_next glm_moe_dsa glm_ocr glmasr gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss gpt_pangu gptj
granite granitemoe granitemoehybrid grinmoe hrm_text hunyuan_v1_dense hunyuan_v1_moe hunyuan_vl hy_v3 hymba
inkling_mm_model instella intern_s2_preview internlm internlm2 interns1 internvl internvl_chat jamba k2_horizon kimi_k2
kimi_k25 klear laguna lfm2 lfm2_moe lfm2_vl llada2_moe llama llama4 llama4_text llava_qwen2 locateanything
longcat_flash longllama mage_vl marin mimo mimo_v2 minicpm minicpm3 minicpmo minicpmv minicpmv4_6 minimax minimax_m2
minimax_m3_vl ministral3 mistral mistral3 mixtral mllama mllama_text_model mobilellm moss mpt muse_glimmer nanbeige
nemotron-nas nemotron_h nemotron_h_puzzle nemotron_labs_diffusion nemotronh_nano_omni_reasoning_v3 olmo2 olmo3 olmoe
opt ouro ovis ovis2 ovis2_5 ovis2_6_moe ovis2_6_next phi phi3 phi4mm phimoe qwen qwen2 qwen2_5_omni qwen2_5_vl
qwen2_5_vl_text qwen2_moe qwen2_vl qwen2_vl_text qwen3 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_moe
qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe qwen4_exp qwen4_exp_text qwen_drive refinedWeb refinedWebModel seed_oss
smollm3 smolvlm solar_open solar_open2 spark2_5 stablelm stablelm_epoch starcoder2 telechat unlimited-ocr voxtral
xing4_0 xverse yi zamba zamba2 zdtaichu5_0
"""

_RENAMED = """
axk2 bailing_hybrid deepseek_ocr2 deepseek_v4 ernie4_5_vl_moe gemma3 glm glm4 glm4v glm5_next glmasr granitemoe
granitemoehybrid hrm_text hunyuan_vl hy_v3 inkling_mm_model internvl kimi_k25 laguna lfm2_moe minimax minimax_m2
minimax_m3_vl mistral3 mixtral mllama nemotron_h phi3 phimoe qwen2_5_vl qwen2_vl
"""

_AUTO_GPTQ = """
RefinedWeb RefinedWebModel Yi baichuan bloom codegen deci falcon gemma gpt2 gpt_bigcode gpt_neox gptj internlm llama
longllama mistral mixtral moss opt qwen qwen2 stablelm_epoch xverse
"""

_AUTOAWQ = """
RefinedWeb RefinedWebModel Yi aquila baichuan bloom cohere deepseek_v2 deepseek_v3 exaone falcon gemma gemma2
gpt_bigcode gpt_neox gptj internlm2 llama llava llava_next minicpm minicpm3 mistral mixtral mpt opt phi3 phi3_v qwen
qwen2 qwen2_5_omni qwen2_5_vl qwen2_vl qwen3 qwen3_moe stablelm starcoder2
"""

RENAMED = frozenset(_RENAMED.split())
"""Types whose layers are renamed, or cut into others, when gptqmodel loads a model by transformers 5. It saves them so,
where transformers would turn them back."""

KNOWN: Mapping[str, frozenset[str]] = {
    "gptqmodel": frozenset(_GPTQMODEL.split()),
    "auto-gptq": frozenset(_AUTO_GPTQ.split()),
    "autoawq": frozenset(_AUTOAWQ.split()),
}
