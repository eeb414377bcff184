"""A trained adapter as a model of its own.

merge      base + adapter, shard by shard, without loading the model
strength   the adapter at another strength, an adapter still
change     what merging did to the log-probabilities
llama_cpp  what llama.cpp's converter needs, and its command
to_gguf    a file for llama.cpp at each level of quantisation, and what that did to the preference
as_adapter the adapter for llama.cpp, vLLM and SGLang
ollama     a Modelfile, its template made from the tokenizer's
"""
