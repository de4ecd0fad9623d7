#!/bin/sh
# Talk to the model. Settings are in pi.env; what is given here is passed on, for example:
#   sh run_decoder.sh -p "What is zram?"         one answer
#   GRAMMAR=json.gbnf sh run_decoder.sh          answers that are JSON
#   PROMPT_CACHE=chat.cache sh run_decoder.sh    what was read once is not read again
set -eu
grammar_given=${GRAMMAR:-}
cache_given=${PROMPT_CACHE:-}
. "$(dirname "$0")/tools.sh"
GRAMMAR=${grammar_given:-$GRAMMAR}
PROMPT_CACHE=${cache_given:-$PROMPT_CACHE}

if [ -n "$PROMPT_CACHE" ]; then
    # Newer versions keep this option in a program of its own.
    program=$(tool llama-completion llama-cli)
else
    program=$(tool llama-cli llama-completion)
fi
set -- -m "$model" -t "$THREADS" -tb "$THREADS" -c "$CONTEXT" -b "$BATCH" -ub "$UBATCH" -ngl 0 "$@"
if [ "$KV_TYPE" != f16 ]; then
    set -- -ctk "$KV_TYPE" -ctv "$KV_TYPE" -fa on "$@"
fi
if [ -n "$GRAMMAR" ]; then
    case $GRAMMAR in
        /*) set -- --grammar-file "$GRAMMAR" "$@" ;;
        *) set -- --grammar-file "$here/$GRAMMAR" "$@" ;;
    esac
fi
if [ -n "$PROMPT_CACHE" ] && knows "$program" --prompt-cache; then
    set -- --prompt-cache "$here/$PROMPT_CACHE" "$@"
fi
case " $* " in
    *" -p "* | *" -f "*) set -- "$@" -no-cnv ;;
    *) set -- -cnv "$@" ;;
esac
exec "$program" "$@"
