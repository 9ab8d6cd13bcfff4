// A small model and a task for it: nothing here knows of ranks or compression.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

constexpr std::size_t kInputs = 32;
constexpr std::size_t kHidden = 256;
constexpr std::size_t kClasses = 10;

struct Samples {
  std::vector<float> inputs;  // kInputs each
  std::vector<std::size_t> labels;

  std::size_t count() const { return labels.size(); }
};

/// Each class is three clouds of points, so that no linear model can tell them apart.
class Task {
 public:
  explicit Task(std::uint64_t seed) : seed_(seed), centres_(kClouds * kInputs) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (float& x : centres_) x = normal(random);
  }

  /// Equal `shard`s give equal samples, different ones independent samples.
  Samples samples(std::uint64_t shard, std::size_t count) const {
    std::mt19937_64 random(seed_ * 1'000'003 + shard + 1);
    std::normal_distribution<float> noise(0.0f, 1.5f);
    Samples samples;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t cloud = random() % kClouds;
      for (std::size_t k = 0; k < kInputs; ++k) {
        samples.inputs.push_back(centres_[cloud * kInputs + k] + noise(random));
      }
      samples.labels.push_back(cloud % kClasses);
    }
    return samples;
  }

 private:
  static constexpr std::size_t kClouds = 3 * kClasses;
  std::uint64_t seed_;
  std::vector<float> centres_;
};

/// The tensors of the model, or the gradient of each. Matrices are row-major.
struct Tensors {
  std::vector<float> hidden_weight = std::vector<float>(kHidden * kInputs);
  std::vector<float> hidden_bias = std::vector<float>(kHidden);
  std::vector<float> class_weight = std::vector<float>(kClasses * kHidden);
  std::vector<float> class_bias = std::vector<float>(kClasses);

  std::vector<std::vector<float>*> all() {
    return {&hidden_weight, &hidden_bias, &class_weight, &class_bias};
  }
};

inline Tensors initial_parameters(std::uint64_t seed) {
  Tensors parameters;
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (float& w : parameters.hidden_weight) w = normal(random) / std::sqrt(float{kInputs});
  for (float& w : parameters.class_weight) w = normal(random) / std::sqrt(float{kHidden});
  return parameters;
}

/// The logarithms of the class probabilities of one input; fills `hidden` on the way.
inline std::vector<float> forward(const Tensors& p, const float* input,
                                  std::vector<float>& hidden) {
  hidden = p.hidden_bias;
  for (std::size_t h = 0; h < kHidden; ++h) {
    for (std::size_t k = 0; k < kInputs; ++k)
      hidden[h] += p.hidden_weight[h * kInputs + k] * input[k];
    hidden[h] = std::max(hidden[h], 0.0f);
  }
  std::vector<float> scores = p.class_bias;
  for (std::size_t c = 0; c < kClasses; ++c) {
    for (std::size_t h = 0; h < kHidden; ++h)
      scores[c] += p.class_weight[c * kHidden + h] * hidden[h];
  }
  const float largest = *std::max_element(scores.begin(), scores.end());
  float sum = 0;
  for (float score : scores) sum += std::exp(score - largest);
  for (float& score : scores) score -= largest + std::log(sum);
  return scores;
}

/// Adds to `gradient` what one sample contributes, times `weight`. Returns the sample's loss.
inline float backward(const Tensors& p, const float* input, std::size_t label, float weight,
                      Tensors& gradient) {
  std::vector<float> hidden;
  const std::vector<float> scores = forward(p, input, hidden);
  std::vector<float> hidden_gradient(kHidden);
  for (std::size_t c = 0; c < kClasses; ++c) {
    const float delta = weight * (std::exp(scores[c]) - (c == label ? 1.0f : 0.0f));
    gradient.class_bias[c] += delta;
    for (std::size_t h = 0; h < kHidden; ++h) {
      gradient.class_weight[c * kHidden + h] += delta * hidden[h];
      hidden_gradient[h] += delta * p.class_weight[c * kHidden + h];
    }
  }
  for (std::size_t h = 0; h < kHidden; ++h) {
    if (hidden[h] == 0.0f) continue;
    gradient.hidden_bias[h] += hidden_gradient[h];
    for (std::size_t k = 0; k < kInputs; ++k) {
      gradient.hidden_weight[h * kInputs + k] += hidden_gradient[h] * input[k];
    }
  }
  return -scores[label];
}

/// The mean loss over `count` samples from `first` on, wrapping around; its gradient goes to
/// `gradient`.
inline float loss_and_gradient(const Tensors& parameters, const Samples& samples, std::size_t first,
                               std::size_t count, Tensors& gradient) {
  gradient = Tensors();
  const float weight = 1.0f / static_cast<float>(count);
  float loss = 0;
  for (std::size_t i = first; i < first + count; ++i) {
    const std::size_t sample = i % samples.count();
    loss += weight * backward(parameters, &samples.inputs[sample * kInputs], samples.labels[sample],
                              weight, gradient);
  }
  return loss;
}

inline double accuracy(const Tensors& parameters, const Samples& samples) {
  std::vector<float> hidden;
  std::size_t right = 0;
  for (std::size_t i = 0; i < samples.count(); ++i) {
    const std::vector<float> scores = forward(parameters, &samples.inputs[i * kInputs], hidden);
    const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
    right += static_cast<std::size_t>(best) == samples.labels[i];
  }
  return static_cast<double>(right) / static_cast<double>(samples.count());
}
