# Read by the other scripts: settings of this folder, and where the programs of llama.cpp are.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/pi.env"

# The first of these programs of llama.cpp that is here.
tool() {
    for name in "$@"; do
        for folder in "${LLAMA_CPP:-$HOME/llama.cpp}/build/bin" "$here"; do
            if [ -x "$folder/$name" ]; then
                echo "$folder/$name"
                return
            fi
        done
        if command -v "$name"; then
            return
        fi
    done
    echo "There is no $1 here. Run setup_pi.sh first, or name the folder of llama.cpp with LLAMA_CPP." >&2
    exit 1
}

# Whether a program knows an option; llama.cpp's change from one version to the next.
knows() {
    "$1" --help 2>&1 | grep -q -e "$2"
}

case $MODEL in
    /*) model=$MODEL ;;
    *) model=$here/$MODEL ;;
esac
if [ ! -f "$model" ]; then
    echo "There is no model $model; set MODEL in pi.env." >&2
    exit 1
fi
