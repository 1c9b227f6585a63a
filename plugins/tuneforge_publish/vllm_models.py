"""The architectures of text-generation models that the registry of vLLM 0.33 names."""

from __future__ import annotations

_CAUSAL = """
    Afmoe AliceAI Apertus Arcee AXK1 BailingMoe BailingMoeV2 BailingMoeV2_5 BailingMoeV3 Beam Bloom Cohere Cohere2
    Cohere2Moe Cwm Dbrx DeciLM Deepseek DeepseekV2 DeepseekV3 DeepseekV32 DeepseekV4 DomynEdge Dory Ernie4_5
    Ernie4_5_Moe Exaone Exaone4 ExaoneMoE ExaoneMoe Falcon FalconH1 FalconMamba FlexOlmo Flint Gemma Gemma2 Gemma3
    Gemma3n Gemma4 Glm Glm4 Glm4Moe Glm4MoeLite Glm5Next GlmMoeDsa GPTBigCode GPTJ GPTNeoX GptOss Granite
    GraniteMoe GraniteMoeHybrid GraniteMoeShared GraniteMoeSWA GraniteSWA HCXVisionV2 HrmText HunYuanDenseV1
    HunYuanMoEV1 HyperCLOVAX HYV3 HYV4 Inkling InternLM2 InternLM3 IQuestCoder IQuestLoopCoder Jais2 Jamba
    K2Horizon KimiLinear Kolibri1 Laguna Lfm2 Lfm2Moe Llama LLaMA Llama4 LongcatFlash LongcatFlashNgram Mamba
    Mamba2 Mellum MiMo MiMoV2 MiMoV2Flash MiniCPM MiniCPM3 MiniMaxM2 MiniMaxM3Sparse Ministral3 Mistral
    MistralLarge3 Mixtral MuseGlimmer Nanbeige Nemotron NemotronH NemotronHPuzzle Olmo Olmo2 Olmo3 Olmoe
    OlmoHybrid OPT Orion PanguEmbedded PanguProMoEV2 PanguUltraMoE Param2MoE Phi Phi3 PhiMoE Plamo3 Qwen2 Qwen2Moe
    Qwen3 Qwen3_5 Qwen3_5Moe Qwen3Moe Qwen3Next Qwen4Exp Rnj1 SarvamMLA SarvamMoE SeedOss SmolLM3 Solar StableLm
    Starcoder2 Step1 Step3p5 Step3Text Step5 TeleChat2 TeleChat3 TeleFLM VaultGemma Zamba2
"""

ARCHITECTURES = frozenset({*(f"{name}ForCausalLM" for name in _CAUSAL.split()), "GPT2LMHeadModel"})
