#!/bin/sh
# Stands in for sparse-eval: answers by the form of the weights, and counts beside the model how often it is asked.
read -r request
model=$(printf "%s" "$request" | sed -n 's/.*"base":"\([^"]*\)".*/\1/p')
echo x >>"$(dirname "$model")/calls"
text='"tokens":6,"scored":5,"text_bytes":9,"windows":2,"mean_nll":2.3,"perplexity":10,"bits_per_byte":2'
against='"mean_nll":2.3,"perplexity":10,"positions":5,"kl_mean":0.02,"kl_p99":0.1,"kl_max":0.2,"top1":0.96'
answer() {
    printf '{"result":{"architecture":"llama","threads":1,"context":4,"stride":2,"weights_bytes":%s,' "$1"
    printf '"peak_memory_bytes":7,%s,"against":{%s,"perplexity_difference":%s,' "$text" "$against" "$2"
    printf '"perplexity_difference_interval":[%s,%s]},' "$2" "$3"
    printf '"latency":{"prefill_p50_ms":1,"prefill_tokens_per_second":1,"token_p50_ms":%s,' "$4"
    printf '"token_p99_ms":%s,"tokens_per_second":%s}}}\n' "$4" "$5"
}
case "$request" in
*'"quantize"'*)
    output=$(printf "%s" "$request" | sed -n 's/.*"output":"\([^"]*\)".*/\1/p')
    echo GGUF >"$output"
    echo '{"result":{"bytes":5}}'
    ;;
*'"prompts"'*)
    prompt="{$text,\"next\":[{\"token\":1,\"text\":\"a\",\"probability\":0.5}],"
    prompt="$prompt\"against\":{$against,\"perplexity_difference\":0}}"
    printf '{"result":{"architecture":"llama","threads":1,"weights_bytes":9,"prompts":[%s]}}\n' "$prompt"
    ;;
*'"delta"'*) answer 600 -1 0 3 300 ;;
*q8_0*) answer 500 0.1 0.2 2 500 ;;
*q2_k*) answer 200 5 6 1 1000 ;;
*q3_k*) echo '{"error":{"kind":"invalid_argument","message":"no such form"}}' ;;
*'"text":"'*broken*) echo '{"error":{"kind":"invalid_input","message":"not UTF-8","file":"broken"}}' ;;
*) answer 1000 0 0 4 250 ;;
esac
