// The threads and the two passes under a sanitizer, without Python: every cell, each way of splitting, checkpoints,
// embedded tokens, calls side by side, many callers, exceptions. Exit code 0: all results are bitwise those of one thread. See CONTRIBUTING.md.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "fastrnn/rnn.hpp"
#include "fastrnn/runtime.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "token_index.hpp"

namespace {

using namespace fastrnn;
using Index = fastrnn::index;  // <cstring> has another
using Values = std::vector<float>;
const Cell kAllCells[] = {Cell::rnn, Cell::lstm, Cell::gru, Cell::gru_reset_before};

template <class T>
View<T> view(T* data, std::initializer_list<Index> shape) {
  View<T> v;
  v.data = data;
  for (Index n : shape) v.shape[v.ndim++] = n;
  Index stride = 1;
  for (int i = v.ndim - 1; i >= 0; stride *= v.shape[i--]) v.stride[i] = stride;
  return v;
}

// How forward and backward are cut up.
struct Splits {
  Split forward = Split::automatic, backward = Split::automatic;
};

// Output, states and gradients of a random case; x is an array, or an embedding and tokens.
std::vector<Values> results(Cell cell, Index B, bool ragged, Index checkpoint, bool embedded = false, Splits splits = {}) {
  constexpr Index T = 90, I = 20, H = 48, V = 29;
  const Index G = cell == Cell::rnn ? 1 : cell == Cell::lstm ? 4 : 3;
  std::mt19937 generator(static_cast<unsigned>(B));
  std::normal_distribution<float> normal(0, 0.1f);
  const auto draw = [&](Index count) {
    Values values(static_cast<size_t>(count));
    for (float& v : values) v = normal(generator);
    return values;
  };
  const Values x = draw(B * T * I), w_ih = draw(G * H * I), w_hh = draw(G * H * H), bias = draw(G * H),
               grad_y = draw(B * T * H);
  std::vector<Index> lengths;
  for (Index b = 0; b < B; ++b) lengths.push_back(ragged ? (b * 7 + 1) % T : T);

  std::vector<int32_t> ids;
  for (Index i = 0; i < B * T; ++i) ids.push_back(int32_t(i * i % V));
  const TokenIndex tokens = index_tokens<int32_t>(B * T, ids.data(), V);

  RnnOptions<float> options;
  options.cell = cell;
  options.checkpoint = checkpoint;
  RnnInputs<float> in;
  in.x = view(x.data(), {B, T, I});
  if (embedded) {
    in.x = view(x.data(), {V, I});
    in.distinct = &tokens;
    in.id_axes[0] = B;
    in.id_axes[1] = T;
  }
  in.weight_ih = view(w_ih.data(), {G * H, I});
  in.weight_hh = view(w_hh.data(), {G * H, H});
  in.bias_ih = view(bias.data(), {G * H});
  in.lengths = view<const Index>(lengths.data(), {B});
  std::vector<Values> r;
  for (Index n : {B * T * H, B * H, B * H, B * T * I, G * H * I, G * H * H, G * H}) r.emplace_back(size_t(n));
  RnnOutputs<float> out;
  out.output = view(r[0].data(), {B, T, H});
  out.h_n = view(r[1].data(), {B, H});
  if (cell == Cell::lstm) out.c_n = view(r[2].data(), {B, H});
  Workspace<float> workspace;
  forced_split.store(splits.forward);
  rnn_forward(options, in, out, &workspace);
  forced_split.store(splits.backward);
  RnnGradients<float> gradients;
  gradients.x = embedded ? view(r[3].data(), {V, I}) : view(r[3].data(), {B, T, I});
  gradients.weight_ih = view(r[4].data(), {G * H, I});
  gradients.weight_hh = view(r[5].data(), {G * H, H});
  gradients.bias_ih = view(r[6].data(), {G * H});
  rnn_backward<float>(workspace, view(grad_y.data(), {B, T, H}), {}, {}, gradients);
  return r;
}

int any_number_of_threads(int threads) {
  int wrong = 0;
  constexpr Split a = Split::automatic, r = Split::rows, u = Split::units, p = Split::pipeline;
  for (Splits splits : {Splits{a, a}, {r, r}, {u, u}, {p, p}, {p, u}, {u, p}})
    for (Cell cell : kAllCells)
      for (Index B : {1, 3, 17})
        for (bool ragged : {false, true})
          for (bool embedded : {false, true}) {
            set_num_threads(1);
            const auto expected = results(cell, B, ragged, 0, embedded, splits);
            set_num_threads(threads);
            for (Index checkpoint : {0, 1, 0, 1})
              wrong += results(cell, B, ragged, checkpoint, embedded, splits) != expected;
          }
  forced_split.store(Split::automatic);
  return wrong;
}

int side_by_side(int threads) {
  int wrong = 0;
  for (Cell cell : kAllCells)
    for (Index B : {1, 17}) {
      set_num_threads(1);
      const auto expected = results(cell, B, true, 0);
      set_num_threads(threads);
      std::vector<Values> found[2];
      run_calls(threads, 2, [&](Index i) { found[i] = results(cell, B, true, 0); });
      wrong += found[0] != expected || found[1] != expected;
    }
  return wrong;
}

// Short pauses send the workers to sleep in between.
int many_callers(int threads) {
  std::vector<std::vector<Values>> expected;
  set_num_threads(1);
  for (Cell cell : kAllCells) expected.push_back(results(cell, 5, true, 1));
  set_num_threads(threads);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 6; ++caller)
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 12; ++i) {
        const int cell = (i + caller) % kCells;
        wrong += results(kAllCells[cell], 5, true, 1) != expected[size_t(cell)];
        if (i % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(400));
        if (i == 6) release_memory();
      }
    });
  for (std::thread& t : callers) t.join();
  return wrong;
}

int exceptions(int threads) {
  int missing = 0;
  const auto expect = [&](auto&& call) {
    try {
      call();
    } catch (const std::runtime_error&) {
      return;
    }
    ++missing;
  };
  for (int i = 0; i < 60; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(50 * (i % 12)));
    std::atomic<int> count{0};
    run_tasks(threads, 8, [&](int, Index) { ++count; });
    missing += count != 8;
    expect([&] {
      run_tasks(threads, 8, [&](int, Index task) {
        if (task == 3) throw std::runtime_error("a task");
      });
    });
    expect([&] {
      run_calls(threads, 2, [&](Index call) {
        if (call == i % 2) throw std::runtime_error("a call");
      });
    });
    expect([&] {
      run_groups(threads, 1, 200.0, [&](Team& team, int, Index) {
        team.barrier();
        if (team.rank == team.size - 1) throw std::runtime_error("a member");
        team.barrier();  // the others wait here
      });
    });
  }
  return missing;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
  fastrnn::assume_processors(threads);
  fastrnn::assume_meeting(80);  // small calls are shared out, too
  int wrong[] = {any_number_of_threads(threads), side_by_side(threads), many_callers(threads), exceptions(threads)};
  fastrnn::assume_meeting(0);
  wrong[2] += many_callers(threads);
  std::printf("%d threads: %d, %d, %d and %d wrong\n", threads, wrong[0], wrong[1], wrong[2], wrong[3]);
  return wrong[0] + wrong[1] + wrong[2] + wrong[3] > 0;
}
