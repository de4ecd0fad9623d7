#!/bin/sh
# Measure, add a line to benchmark.csv, and fail if the model became slow:
#   below MIN_TOKENS_PER_SECOND, or below REGRESSION times the median of the last ten measurements of the same file.
set -eu
minimum_given=${MIN_TOKENS_PER_SECOND:-}
. "$(dirname "$0")/tools.sh"
MIN_TOKENS_PER_SECOND=${minimum_given:-$MIN_TOKENS_PER_SECOND}
history=${BENCHMARK_CSV:-$here/benchmark.csv}

program=$(tool llama-bench)
set -- -m "$model" -t "$THREADS" -p "$BENCH_PROMPT" -n "$BENCH_GENERATE" -r "$BENCH_REPEATS" -b "$BATCH" -ub "$UBATCH" -o csv
if [ "$KV_TYPE" != f16 ]; then
    set -- "$@" -ctk "$KV_TYPE" -ctv "$KV_TYPE" -fa 1
fi
measured=$("$program" "$@" | awk -F '","' '
    # Columns come and go between versions: they are found by name. Every field is quoted.
    function plain(text) { gsub(/"/, "", text); return text }
    !found && /n_gen/ && /avg_ts/ { for (i = 1; i <= NF; i++) column[plain($i)] = i; found = 1; next }
    found {
        type = plain($column["model_type"]); gsub(/,/, " ", type)
        if (plain($column["n_gen"]) + 0 > 0) decode = plain($column["avg_ts"])
        else prompt = plain($column["avg_ts"])
    }
    END { if (prompt == "" || decode == "") exit 1; printf "%s,%s,%s", type, prompt, decode }
') || {
    echo "llama-bench gave no measurement." >&2
    exit 1
}
decode=${measured##*,}

bytes=$(wc -c < "$model" | tr -d ' ')
heat=
zone=/sys/class/thermal/thermal_zone0/temp
[ -r "$zone" ] && heat=$(awk '{ printf "%.1f", $1 / 1000 }' "$zone")
throttled=
command -v vcgencmd > /dev/null && throttled=$(vcgencmd get_throttled | cut -d = -f 2)
name=$(basename "$model")
[ -s "$history" ] || echo "time,host,model,bytes,threads,type,prompt_tokens_per_second,decode_tokens_per_second,temperature_celsius,throttled" > "$history"
usual=$(awk -F , -v m="$name" -v b="$bytes" -v t="$THREADS" '$3 == m && $4 == b && $5 == t { print $8 }' "$history" |
    tail -n 10 | sort -n | awk '{ x[NR] = $1 } END { if (NR) print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }')
echo "$(date -u +%Y-%m-%dT%H:%M:%SZ),$(uname -n),$name,$bytes,$THREADS,$measured,$heat,$throttled" >> "$history"
tail -n 1 "$history"

below() {
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 < b + 0) }'
}
if below "$decode" "$MIN_TOKENS_PER_SECOND"; then
    echo "Too slow: $decode tokens/s, at least $MIN_TOKENS_PER_SECOND are asked for." >&2
    [ -z "$throttled" ] || [ "$throttled" = 0x0 ] || echo "The board was throttled ($throttled): see to its supply and cooling." >&2
    exit 1
fi
if [ -n "$usual" ]; then
    floor=$(awk -v u="$usual" -v r="$REGRESSION" 'BEGIN { print u * r }')
    if below "$decode" "$floor"; then
        echo "Slower than it was: $decode tokens/s, usually $usual." >&2
        exit 1
    fi
fi
