#!/usr/bin/env bash
# The measured run on real ALFWorld games with a real vLLM; run again to go on after a stop.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../../../.."
tutelage=${TUTELAGE:-.venv/bin/tutelage}
out=${OUT:-out/alfworld}
games=${GAMES:-42}
controls=${CONTROLS:-21}
steps=${STEPS:-300}
bank=${BANK:-150}
recovery=${RECOVERY:-60}

mkdir -p "$out"
"$tutelage" student start --json > "$out/student.json"
field() { sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" "$out/student.json"; }
settings=(
  --set "store.url=sqlite:///$out/store.sqlite"
  --set "student.base_url=$(field base_url)"
  --set "student.model=$(field model)"
)

# Clean runs of the teacher, then some in which the unaided student takes a step now and then:
# the teacher's next steps show how to recover from what a student does.
"$tutelage" collect alfworld --split "train:$bank" --out "$out/bank" "${settings[@]}"
"$tutelage" collect alfworld --split "train:$recovery" --out "$out/bank-recovery" --detours 0.15 \
  "${settings[@]}"

play() { "$tutelage" replay alfworld --out "$out/replay" --jobs 4 --max-steps 30 "$@" "${settings[@]}"; }
play --split "valid_unseen:$games" --arms teacher,demos-cascade,cascade,random-mix
"$tutelage" accuracy "$out/replay" --steps "$steps" "${settings[@]}"
play --split "valid_unseen:$games" --arms student,demos
play --split "valid_unseen:$controls" \
  --arms recall,recall-guarded,cascade-unguarded,demos-cascade-unguarded
"$tutelage" report "$out/replay"
