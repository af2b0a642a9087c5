// Two calls at once: what each is worth, and who runs them.
#include "cell_layout.hpp"
#include "dispatch.hpp"
#include "fastrnn/rnn.hpp"
#include "plan.hpp"
#include "threads.hpp"
#include "weights.hpp"
#include "workspace.hpp"

namespace fastrnn {
namespace {

// As if all steps were valid; nothing is checked yet.
template <class T>
Work forward_work(const RnnCall<T>& call) {
  const RnnInputs<T>& in = call.in;
  const CellLayout& cell = layout(call.options.cell);
  const index batch = in.axes()[call.options.batch_first ? 0 : 1], steps = in.axes()[call.options.batch_first ? 1 : 0];
  const index H = in.packed ? in.packed.hidden() : in.weight_hh.shape[1];
  const index I = in.packed ? in.packed.inputs() : in.weight_ih.shape[1];
  const size_t value = !in.packed || in.packed.precision() == Precision::full ? sizeof(T)
                       : in.packed.precision() == Precision::bfloat16         ? 2
                                                                              : 1;
  const RecurrentPlan plan = plan_recurrent(batch, steps, I, H, cell.slots, value, call.workspace != nullptr);
  const double per_input = 2.0 * double(batch * cell.gates * H), of_x = in.table || in.distinct ? 0 : per_input * double(I);
  const double step = per_input * double(H) + of_x, ahead = plan.chunked ? of_x : 0, flops = step * double(steps);
  const int lanes = active_kernels<T>().lanes;
  const TeamPlan team = plan_team(batch / plan.shards, (step - ahead) / double(plan.shards),
                                  ahead / double(plan.shards), panels_of(H, lanes));
  return {flops, steps, plan_threads(flops, plan.shards * team.members), size_t(cell.slots * H * H) * value};
}

template <class T>
Work backward_work(const RnnBackwardCall<T>& call) {
  const auto* w = call.workspace.state.get();
  if (!w) return {0, 0, 1, 0};  // an error, which the call itself finds
  const double flops = w->backward_flops();
  return {flops, w->steps, plan_threads(flops, index(w->shards.size()) * w->backward_team().members),
          size_t(w->cell->slots * w->H * w->H) * sizeof(T)};
}

}  // namespace

template <class T>
void rnn_forward_pair(const RnnCall<T>& first, const RnnCall<T>& second) {
  const RnnCall<T>* const calls[] = {&first, &second};
  run_calls(plan_side_by_side(forward_work(first), forward_work(second)) ? 2 : 1, 2, [&](index i) {
    rnn_forward(calls[i]->options, calls[i]->in, calls[i]->out, calls[i]->workspace);
  });
}

template <class T>
void rnn_backward_pair(const RnnBackwardCall<T>& first, const RnnBackwardCall<T>& second) {
  const RnnBackwardCall<T>* const calls[] = {&first, &second};
  run_calls(plan_side_by_side(backward_work(first), backward_work(second)) ? 2 : 1, 2, [&](index i) {
    const RnnBackwardCall<T>& c = *calls[i];
    rnn_backward(c.workspace, c.grad_output, c.grad_h_n, c.grad_c_n, c.gradients);
  });
}

#define FASTRNN_INSTANTIATE(T)                                              \
  template void rnn_forward_pair(const RnnCall<T>&, const RnnCall<T>&);     \
  template void rnn_backward_pair(const RnnBackwardCall<T>&, const RnnBackwardCall<T>&);
FASTRNN_INSTANTIATE(float)
FASTRNN_INSTANTIATE(double)

}  // namespace fastrnn
