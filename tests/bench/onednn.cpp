// Matrix products by oneDNN, the peer of tests/bench/gemm.bench.ts. Prints the library's version, then reads one command a
// line and answers with seconds per run:
//   dense <bf16|f32> M N K repeats        y = x·Wᵀ, W in its plain layout
//   packed <bf16|f32> M N K repeats       the same, W in the layout that oneDNN prefers, brought there beforehand
//   grouped <bf16|f32> E rows N K repeats for each of E experts: gather `rows` rows of x, then y = x·Wᵀ
//   groupedPacked …                       the same with packed W
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <string>
#include <unordered_map>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

using namespace dnnl;

static engine cpu(engine::kind::cpu, 0);
static stream queue(cpu);

struct Product {
  memory x, weight, y;
  matmul op;
  void run() { op.execute(queue, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, y}}); }
};

static void fill(memory& m) {
  auto* bytes = static_cast<uint8_t*>(m.get_data_handle());
  const size_t size = m.get_desc().get_size();
  // Small positive numbers, in bf16 and float32 alike.
  for (size_t i = 0; i + 1 < size; i += 2) bytes[i] = static_cast<uint8_t>(i * 7), bytes[i + 1] = 0x3c;
}

static Product make(memory::data_type type, int64_t M, int64_t N, int64_t K, bool packed) {
  const memory::desc x({M, K}, type, memory::format_tag::ab), y({M, N}, type, memory::format_tag::ab);
  const memory::desc plain({K, N}, type, memory::format_tag::ba), wanted = packed ? memory::desc({K, N}, type, memory::format_tag::any) : plain;
  const matmul::primitive_desc description(matmul::desc(x, wanted, y), cpu);
  Product p{memory(x, cpu), memory(plain, cpu), memory(y, cpu), matmul(description)};
  fill(p.x);
  fill(p.weight);
  if (packed) {
    memory weight(description.weights_desc(), cpu);
    reorder(p.weight, weight).execute(queue, p.weight, weight);
    queue.wait();
    p.weight = weight;
  }
  return p;
}

template <class Run>
static double secondsOf(int repeats, Run run) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; i++) run();
  queue.wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
}

int main() {
  std::unordered_map<std::string, std::vector<Product>> made;
  std::cout << dnnl_version()->major << '.' << dnnl_version()->minor << '.' << dnnl_version()->patch << std::endl;
  std::string kind, name;
  while (std::cin >> kind >> name) {
    const auto type = name == "bf16" ? memory::data_type::bf16 : memory::data_type::f32;
    const size_t bytes = name == "bf16" ? 2 : 4;
    int64_t E = 1, M, N, K;
    int repeats;
    const bool isGrouped = kind == "grouped" || kind == "groupedPacked";
    if (isGrouped) std::cin >> E;
    std::cin >> M >> N >> K >> repeats;
    std::vector<Product>& products = made[kind + name + std::to_string(E) + " " + std::to_string(M) + " " + std::to_string(N) + " " + std::to_string(K)];
    if (products.empty()) {
      for (int64_t e = 0; e < E; e++) products.push_back(make(type, M, N, K, kind == "packed" || kind == "groupedPacked"));
      for (Product& p : products) p.run();
      queue.wait();
    }
    static std::vector<uint8_t> tokens;
    tokens.resize(static_cast<size_t>(E * M * K) * bytes);
    const double seconds = secondsOf(repeats, [&] {
      for (int64_t e = 0; e < E; e++) {
        Product& p = products[static_cast<size_t>(e)];
        if (isGrouped) {
          auto* to = static_cast<uint8_t*>(p.x.get_data_handle());
#pragma omp parallel for
          for (int64_t i = 0; i < M; i++) memcpy(to + i * K * static_cast<int64_t>(bytes), tokens.data() + (i * 7919 + e * 31) % (E * M) * K * static_cast<int64_t>(bytes), static_cast<size_t>(K) * bytes);
        }
        p.run();
      }
    });
    std::cout << seconds << std::endl;
  }
}
