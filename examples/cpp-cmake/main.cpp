// Reads handwritten digits and says how many of them the model gets right: digits IMAGES.npy LABELS.npy
#include <digits.hpp>

#include <algorithm>
#include <fstream>
#include <iostream>

namespace {

/// A .npy file at its data.
std::ifstream data(const char *path) {
    std::ifstream file(path, std::ios::binary);
    unsigned char head[10] = {};
    file.read(reinterpret_cast<char *>(head), sizeof head);
    file.seekg(10 + head[8] + 256 * head[9]);
    return file;
}

template <class T> bool read(std::ifstream &file, T &value) {
    return static_cast<bool>(file.read(reinterpret_cast<char *>(&value), sizeof value));
}

} // namespace

int main(int argc, char **argv) {
    using Model = egret::models::digits;
    if (argc != 3) return 2;
    std::ifstream images = data(argv[1]), labels = data(argv[2]);
    try {
        const Model model;
        Model::Arena arena;
        std::array<float, Model::Inputs::image_elements> image;
        std::array<float, Model::Outputs::logits_elements> logits;
        std::int64_t label = 0;
        int right = 0, all = 0;
        for (; read(images, image) && read(labels, label); all++) {
            model.run(arena, {image}, {logits});
            right += std::max_element(logits.begin(), logits.end()) - logits.begin() == label;
        }
        std::cout << right << " of " << all << " right\n";
        return all == 0;
    } catch (const egret::Failure &e) {
        std::cerr << e.what() << "\n";
        return 1;
    }
}
