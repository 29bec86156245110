# From the raw figures of scripts/bench/l7.sh to the tables people read. They can
# be printed again later, and elsewhere:
#
#   awk -v folder=target/bench/l7-... -f scripts/bench/l7-table.awk
#
# Written for any awk: no extension of one of them is used.

BEGIN {
  FS = " "
  printf "# L7: the price of a call\n\n"
  while ((getline line < (folder "/environment")) > 0) {
    split(line, word, " ")
    rest = substr(line, length(word[1]) + 2)
    if (word[1] == "peer") versions = versions (has(versions) ? ", " : "") rest
    else printf "- %s: %s\n", word[1], rest
  }
  printf "- versions: %s\n", versions
  while ((getline line < (folder "/missing")) > 0) printf "\n%s\n", line
  FS = ","

  while ((getline < (folder "/cost.csv")) > 0) {
    if ($1 == "repeat") continue
    if (!($2 in seen)) { seen[$2] = 1; peers[++peer_count] = $2 }
    if ($1 > repeats) repeats = $1
    workloads[$3] = 1; total[$3, $2]++
    if ($6 != 1) { doubtful = doubtful sprintf("\nDOUBTFUL, not counted: %s, %s, repeat %s: %s\n", $2, $3, $1, $13); continue }
    cost[$1, $3, $2] = $7 / $4
    costs[$3, $2] = costs[$3, $2] " " $7 / $4
    rates[$3, $2] = rates[$3, $2] " " $12
    users[$3, $2] += $8; ticks[$3, $2] += $8 + $9
    backend[$3, $2] = backend[$3, $2] " " $10 / $4
    loads[$3, $2] = loads[$3, $2] " " $11 / $4
  }
  ours = seen["l7:relay"] ? "l7:relay" : "l7:hyper"
  for (w = 1; w <= 5; w++) {
    workload = substr("abcde", w, 1)
    if (!(workload in workloads)) continue
    printf "\n## %s\n\n| peer | proxy CPU per call, us | range | in user mode | to %s (range) | backends, us | h2load, us | calls/s | trials |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n", name(workload), ours
    for (p = 1; p <= peer_count; p++) {
      peer = peers[p]; key = workload SUBSEP peer
      if (!total[workload, peer]) continue
      if (!has(costs[key])) { printf "| %s | no trial counts | | | | | | | 0 of %d |\n", peer, total[workload, peer]; continue }
      summarise(costs[key])
      line = peer == "direct" ? "| direct | - | | " : sprintf("| %s | %.2f | %.2f to %.2f | %.0f %%", peer, middle / 1e3, low / 1e3, high / 1e3, ticks[key] ? 100 * users[key] / ticks[key] : 0)
      counted = trials
      text = peer == "direct" ? "" : ratios(workload, peer, ours)
      if (has(text)) { summarise(text); line = line sprintf(" | %.2f (%.2f to %.2f)", middle, low, high) } else line = line " | "
      line = line sprintf(" | %.1f", summarise(backend[key]) / 1e3)
      # Of streams there is no figure of h2load's.
      line = line (workload == "e" ? " | " : sprintf(" | %.1f", summarise(loads[key]) / 1e3))
      line = line (workload == "e" ? " | " : sprintf(" | %.0f", summarise(rates[key])))
      printf "%s | %d of %d |\n", line, counted, total[workload, peer]
    }
  }

  while ((getline < (folder "/latency.csv")) > 0) {
    if ($1 == "repeat") continue
    if (!($2 in late)) { late[$2] = 1; late_peers[++late_count] = $2 }
    if ($6 != 1) { doubtful = doubtful sprintf("\nDOUBTFUL, not counted: %s, latency, repeat %s: %s\n", $2, $1, $9); continue }
    p50[$2] = p50[$2] " " $7; p99[$2] = p99[$2] " " $8; rate = $4
  }
  if (late_count) {
    printf "\n## Latency of b at %d calls/s, as h2load saw it, from when a call was sent\n\n| peer | p50, us | range | more than direct | p99, us | range | more than direct |\n|---|---:|---:|---:|---:|---:|---:|\n", rate
    for (p = 1; p <= late_count; p++)
      if (has(p50[late_peers[p]])) {
        half[late_peers[p]] = summarise(p50[late_peers[p]])
        tail[late_peers[p]] = summarise(p99[late_peers[p]])
      }
    for (p = 1; p <= late_count; p++) {
      peer = late_peers[p]
      if (!has(p50[peer])) { printf "| %s | no trial counts | | | | | |\n", peer; continue }
      printf "| %s", peer
      late_columns(p50[peer], half)
      late_columns(p99[peer], tail)
      print " |"
    }
  }

  while ((getline < (folder "/syscalls.csv")) > 0) {
    if ($1 == "peer") continue
    if (!syscall_count++) printf "\n## System calls per call, in b, counted by %s\n\n| peer | system calls |\n|---|---:|\n", $6
    if ($4 == 1) { syscalls[$1] = $5 / $3; printf "| %s | %.2f |\n", $1, syscalls[$1] }
    else printf "| %s | not all calls were answered |\n", $1
  }

  while ((getline < (folder "/allocations.csv")) > 0) {
    if ($1 == "peer") continue
    if (!allocation_count++) printf "\n## Allocations per call, in b, counted by valgrind\n\n| peer | allocations |\n|---|---:|\n"
    if ($4 == 1) { allocated[$1] = $5 / $3; printf "| %s | %.2f |\n", $1, allocated[$1] }
    else printf "| %s | not all calls were answered |\n", $1
  }

  while ((getline < (folder "/idle.csv")) > 0) {
    if ($1 == "peer") continue
    if (!idle_count++) printf "\n## Memory of idle connections that have made one call (without the kernel's)\n\n| peer | connections | KiB each | MiB before them |\n|---|---:|---:|---:|\n"
    if ($3 == 1) { idle[$1] = ($5 - $4) / $2; printf "| %s | %d | %.1f | %.1f |\n", $1, $2, idle[$1], $4 / 1024 }
    else printf "| %s | not all of %d connections made their call | | |\n", $1, $2
  }

  if (!(ours in seen)) exit
  printf "\n## The bars, for %s\n\n| bar | aim | measured | |\n|---|---|---:|---|\n", ours
  for (w = 1; w <= 3; w++) {
    workload = substr("abc", w, 1)
    bar(workload ": CPU per call to HAProxy", "<= 0.5", ratios(workload, ours, "haproxy-l7"), 0.5)
    limit = workload == "c" ? 1.3 : 2
    bar(workload ": CPU per call to our L4", "<= " limit, ratios(workload, ours, "l4"), limit)
  }
  best_bar("d", "call"); best_bar("e", "message")
  latency_bar("p50", half); latency_bar("p99", tail)
  bar("idle connections, KiB each", "< 8", idle[ours], 8)
  bar("system calls per call, in b", "< 0.3", syscalls[ours], 0.3)
  bar("allocations per call, in b", "0", allocated[ours], 0)
  print_generator()
  if (has(doubtful)) printf "%s", doubtful
}

function sorted(list, count,   i, j, held) {
  for (i = 2; i <= count; i++) {
    held = list[i]
    for (j = i - 1; j > 0 && list[j] > held; j--) list[j + 1] = list[j]
    list[j + 1] = held
  }
}

# The values of a list "a b c", into medians and their range.
function summarise(text,   list, count) {
  count = split(text, list, " ")
  for (i = 1; i <= count; i++) list[i] += 0
  sorted(list, count)
  low = list[1]; high = list[count]; trials = count
  middle = count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
  return middle
}

function has(text) { return text != "" }

function name(workload) {
  if (workload == "a") return "a: 1 connection x 32 streams, 32 B"
  if (workload == "b") return "b: 8 connections x 16 streams, 32 B"
  if (workload == "c") return "c: 8 connections x 16 streams, 16 KiB"
  if (workload == "d") return "d: 1,000 connections x 4 streams, 32 B"
  return "e: 8 connections x 16 streams of 100 messages each way, 32 B; a call is a message"
}

# The ratio of two peers, taken within each repeat.
function ratios(workload, one, other,   text, repeat) {
  text = ""
  for (repeat = 1; repeat <= repeats; repeat++)
    if (cost[repeat, workload, one] && cost[repeat, workload, other])
      text = text " " cost[repeat, workload, one] / cost[repeat, workload, other]
  return text
}

function bar(what, aim, text, limit,   range, middle_text) {
  if (!has(text)) { printf "| %s | %s | not measured | |\n", what, aim; return }
  summarise(text)
  range = trials > 1 ? sprintf(" (%.2f to %.2f)", low, high) : ""
  # So small a figure would round to none and still miss.
  middle_text = middle > 0 && middle < 0.005 ? sprintf("%.4f", middle) : sprintf("%.2f", middle)
  printf "| %s | %s | %s%s | %s |\n", what, aim, middle_text, range, middle <= limit ? "met" : "MISSED"
}

# CPU beside the best of the real proxies.
function best_bar(workload, unit,   p, best, least) {
  for (p = 1; p <= peer_count; p++)
    if (peers[p] ~ /-l7/ && has(costs[workload, peers[p]])) {
      summarise(costs[workload, peers[p]])
      if (!has(best) || middle < least) { least = middle; best = peers[p] }
    }
  bar(workload ": CPU per " unit " to the best peer" (has(best) ? ", " best : ""), "< 1", has(best) ? ratios(workload, ours, best) : "", 1)
}

function latency_bar(which, values,   p, peer, best) {
  for (p = 1; p <= late_count; p++) {
    peer = late_peers[p]
    if (peer ~ /-l7/ && values[peer] && (!has(best) || values[peer] < values[best])) best = peer
  }
  if (!has(best) || !values[ours]) { bar("latency at half load, " which, "< every L7 peer", "", 1); return }
  printf "| latency at half load, %s | < %s's %d us | %d us | %s |\n", which, best, values[best], values[ours], values[ours] < values[best] ? "met" : "MISSED"
}

# A median, its range, and what it is more than without a proxy.
function late_columns(text, medians) {
  summarise(text)
  printf " | %d | %d to %d | %s", middle, low, high, medians["direct"] ? sprintf("%+d", middle - medians["direct"]) : ""
}

# What the lab's own generator has to match.
function print_generator(   w, workload) {
  for (w = 1; w <= 2; w++) {
    workload = substr("ab", w, 1)
    if (has(loads[workload, "direct"]))
      printf "\nh2load's own CPU per call in %s, without a proxy: %.1f us; the generator's bar.\n", workload, summarise(loads[workload, "direct"]) / 1e3
  }
}
